// Scaled dot-product attention: y = softmax(scale * q k^T + mask) v for each head. The scores are
// never stored.
//
// The softmax is computed online (Milakov and Gimelshein, 2018), one tile of columns at a time, as
// in FlashAttention (Dao et al., NeurIPS 2022). Each row keeps the largest score so far and the sum
// of the exponentials below it; when a larger score comes, the earlier part of the result needs
// only a factor. A block of 4 * BM threads computes BM rows of one head. Four neighbouring threads
// share a row; each has a quarter of the scores of a tile and a quarter of the result.
// Grid: (ROWS / BM, HEADS, batches).
//
// Shape is a type with the integer constants
//   HEADS KV_HEADS   ROWS COLUMNS   DEPTH VALUES (row lengths of k and v)   CAUSAL MASKED (0 or 1)
//   Q_BATCH Q_HEAD Q_ROW Q_DEPTH, and likewise K_, V_, M_ (mask), Y_: strides
// and SCALE, the factor's IEEE bits. A row whose scores are all -inf becomes 0, as ONNX asks.
#pragma once

#include "reduce.cuh"

namespace hiosc {

// Loads ROWS rows of LENGTH floats, from row `first` on, into shared memory. Rows from `end` on are
// zero, and so are the floats from LENGTH up to WIDTH.
template <int ROWS, int LENGTH, int WIDTH, int ROW_STRIDE, int STRIDE, int THREADS>
__device__ __forceinline__ void load_rows(float (&tile)[ROWS][WIDTH + 4], const float *from, int first, int end, int thread) {
  HIOSC_UNROLL_BY(4)
  for (int e = thread; e < ROWS * WIDTH; e += THREADS) {
    const int row = e / WIDTH, i = e % WIDTH;
    tile[row][i] = first + row < end && i < LENGTH ? from[(first + row) * ROW_STRIDE + i * STRIDE] : 0.0f;
  }
}

template <class Shape, int BM, int BN>
__device__ __forceinline__ void attention(const float *q, const float *k, const float *v, const float *mask, float *y) {
  // WIDTH and VALUE_WIDTH are padded to load four floats at a time. Rows of tiles are four floats
  // longer, so that four rows fall into different banks.
  enum : int {
    THREADS = 4 * BM,
    WIDTH = (Shape::DEPTH + 3) / 4 * 4,
    VALUE_WIDTH = (Shape::VALUES + 15) / 16 * 16,
    SCORES = BN / 4,      // per thread and tile
    QUADS = VALUE_WIDTH / 16, // per thread, of four neighbouring results each
    BEHIND = Shape::COLUMNS - Shape::ROWS, // row i sees columns up to i + BEHIND if CAUSAL
  };
  static_assert(BN % 4 == 0 && THREADS % 32 == 0, "four threads share a row, and a warp has whole rows");
  __shared__ __align__(16) float q_tile[BM][WIDTH + 4];
  __shared__ __align__(16) float k_tile[BN][WIDTH + 4];
  __shared__ __align__(16) float v_tile[BN][VALUE_WIDTH + 4];
  __shared__ __align__(16) float p_tile[BM][BN + 4];
  const int thread = threadIdx.x, own = thread / 4, part = thread % 4;
  const int head = blockIdx.y, kv_head = head / (Shape::HEADS / Shape::KV_HEADS), batch = blockIdx.z;
  const int first_row = blockIdx.x * BM, row = first_row + own;
  k += batch * Shape::K_BATCH + kv_head * Shape::K_HEAD;
  v += batch * Shape::V_BATCH + kv_head * Shape::V_HEAD;
  load_rows<BM, Shape::DEPTH, WIDTH, Shape::Q_ROW, Shape::Q_DEPTH, THREADS>(q_tile, q + batch * Shape::Q_BATCH + head * Shape::Q_HEAD, first_row,
                                                                            Shape::ROWS, thread);
  float result[QUADS][4], largest = -INFINITY, sum = 0.0f;
  HIOSC_UNROLL
  for (int i = 0; i < QUADS; ++i) {
    HIOSC_UNROLL
    for (int e = 0; e < 4; ++e) result[i][e] = 0.0f;
  }
  HIOSC_UNROLL_BY(1)
  for (int first = 0; first < Shape::COLUMNS; first += BN) {
    if (Shape::CAUSAL && BEHIND >= 0 && first > first_row + BM - 1 + BEHIND) break; // no row sees this tile
    __syncthreads();
    load_rows<BN, Shape::DEPTH, WIDTH, Shape::K_ROW, Shape::K_DEPTH, THREADS>(k_tile, k, first, Shape::COLUMNS, thread);
    load_rows<BN, Shape::VALUES, VALUE_WIDTH, Shape::V_ROW, Shape::V_DEPTH, THREADS>(v_tile, v, first, Shape::COLUMNS, thread);
    __syncthreads();

    float score[SCORES];
    HIOSC_UNROLL
    for (int i = 0; i < SCORES; ++i) score[i] = 0.0f;
    HIOSC_UNROLL_BY(unrolled(WIDTH / 4, 128 / BN, 64 / BN))
    for (int d = 0; d < WIDTH; d += 4) {
      float a[4];
      load(a, &q_tile[own][d]);
      HIOSC_UNROLL
      for (int i = 0; i < SCORES; ++i) {
        float b[4];
        load(b, &k_tile[i * 4 + part][d]);
        HIOSC_UNROLL
        for (int e = 0; e < 4; ++e) score[i] = fma(a[e], b[e], score[i]);
      }
    }
    float tile_largest = -INFINITY;
    HIOSC_UNROLL
    for (int i = 0; i < SCORES; ++i) {
      const int column = first + i * 4 + part;
      score[i] *= __uint_as_float(Shape::SCALE);
      if (column >= Shape::COLUMNS) {
        score[i] = -INFINITY;
      } else {
        if (Shape::MASKED && row < Shape::ROWS)
          score[i] += mask[batch * Shape::M_BATCH + head * Shape::M_HEAD + row * Shape::M_ROW + column * Shape::M_COLUMN];
        if (Shape::CAUSAL && column > row + BEHIND) score[i] += -3.402823466e38f;
      }
      tile_largest = ReduceMax::combine(tile_largest, score[i]);
    }
    tile_largest = ReduceMax::combine(tile_largest, __shfl_xor_sync(0xffffffffu, tile_largest, 1));
    tile_largest = ReduceMax::combine(tile_largest, __shfl_xor_sync(0xffffffffu, tile_largest, 2));
    const float now = ReduceMax::combine(largest, tile_largest), base = now == -INFINITY ? 0.0f : now;
    const float shrink = expf(largest - base);
    largest = now;
    sum *= shrink;
    HIOSC_UNROLL
    for (int i = 0; i < SCORES; ++i) {
      const float p = expf(score[i] - base);
      sum += p;
      p_tile[own][i * 4 + part] = p;
    }
    HIOSC_UNROLL
    for (int i = 0; i < QUADS; ++i) {
      HIOSC_UNROLL
      for (int e = 0; e < 4; ++e) result[i][e] *= shrink;
    }
    __syncwarp(); // the threads of a row are in one warp
    HIOSC_UNROLL_BY(unrolled(BN, 128 / (4 * QUADS), ceil_div(64, 4 * QUADS)))
    for (int j = 0; j < BN; ++j) {
      const float p = p_tile[own][j];
      HIOSC_UNROLL
      for (int i = 0; i < QUADS; ++i) {
        float b[4];
        load(b, &v_tile[j][(i * 4 + part) * 4]);
        HIOSC_UNROLL
        for (int e = 0; e < 4; ++e) result[i][e] = fma(p, b[e], result[i][e]);
      }
    }
  }
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  if (row >= Shape::ROWS) return;
  y += batch * Shape::Y_BATCH + head * Shape::Y_HEAD + row * Shape::Y_ROW;
  HIOSC_UNROLL
  for (int i = 0; i < QUADS; ++i) {
    HIOSC_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int at = (i * 4 + part) * 4 + e;
      if (at < Shape::VALUES) y[at * Shape::Y_DEPTH] = sum == 0.0f ? 0.0f : result[i][e] / sum;
    }
  }
}

} // namespace hiosc
