// Batched matrix product with element strides: c[b,i,j] = epilogue(sum over k of a[b,i,k] *
// b[b,k,j] + bias[j]).
//
//   matmul_tiled   tiles in shared memory. Grid: (column tiles, row tiles, batch)
//   gemv_warp      for one or a few rows, where the matrix is contiguous along k: a warp multiplies
//                  one line of the matrix by VT vectors, so that it reads the line once for them.
//                  Grid: (LINES / (THREADS / 32), VECTORS / VT, batch)
//   gemv_lines     for one or a few rows, where the matrix is contiguous along its other axis: a
//                  block multiplies 32 neighbouring lines by VT vectors; its warps share the sums.
//                  Grid: (LINES / 32, VECTORS / VT, batch)
//   matmul_thread  for integers and double: one thread per output.
//                  Grid: (BATCH * M * N / THREADS, 1, 1)
//
// Shape of matmul_tiled and matmul_thread is a type with the integer constants
//   BATCH M N K   A_BATCH A_M A_K   B_BATCH B_K B_N   C_BATCH C_M C_N (strides)   BIAS (0 or 1)
// The gemv kernels multiply a matrix of LINES lines by VECTORS vectors; either a or b may be the
// matrix. All loads of UNROLL iterations are in flight together. Their Shape has
//   LINES VECTORS K   MATRIX_BATCH MATRIX_LINE MATRIX_K   VECTOR_BATCH VECTOR_VECTOR VECTOR_K
//                     OUT_BATCH OUT_LINE OUT_VECTOR
//   BIAS (0 or 1)   BIAS_LINE BIAS_VECTOR (the bias's strides)
#pragma once

#include "expr.cuh"
#include "reduce.cuh"
#include "tile.cuh"

namespace hiosc {

template <class Shape, class Tile, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void matmul_tiled(const T *a, const T *b, const typename NonDeduced<T>::Type *bias, Out *c, const More *...more) {
  // Four neighbouring columns are written at once if all offsets are multiples of four.
  enum : int {
    V = Shape::C_N == 1 && Shape::N % 4 == 0 && Shape::C_M % 4 == 0 && Shape::C_BATCH % 4 == 0 ? 4 : 1,
    A_ALIGNED = Shape::A_BATCH % 4 == 0,
    B_ALIGNED = Shape::B_BATCH % 4 == 0,
  };
  const int thread = threadIdx.x, batch = blockIdx.z;
  const int first_row = blockIdx.y * Tile::BM, first_column = blockIdx.x * Tile::BN;

  float sum[Tile::TM][Tile::TN];
  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; ++j) sum[i][j] = 0.0f;
  }
  StridedLoader<T, Tile, Tile::BM, Shape::M, Shape::K, Shape::A_M, Shape::A_K, A_ALIGNED> rows(a + batch * Shape::A_BATCH, first_row,
                                                                                              thread);
  StridedLoader<T, Tile, Tile::BN, Shape::N, Shape::K, Shape::B_N, Shape::B_K, B_ALIGNED> columns(b + batch * Shape::B_BATCH, first_column,
                                                                                                 thread);
  multiply_all<Tile>(sum, ceil_div(Shape::K, Tile::BK), rows, columns, thread);

  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    const int row = first_row + Tile::row(thread) + i;
    if (row >= Shape::M) break;
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; j += V) {
      const int column = first_column + Tile::column(thread, j / Tile::SEGMENT) + j % Tile::SEGMENT;
      if (column >= Shape::N) continue; // V neighbours are inside together
      T v[V];
      HIOSC_UNROLL
      for (int e = 0; e < V; ++e) v[e] = T(Shape::BIAS ? sum[i][j + e] + float(bias[column + e]) : sum[i][j + e]);
      finish<Epilogue, V>(v, batch * Shape::C_BATCH + row * Shape::C_M + column * Shape::C_N, c, more...);
    }
  }
}

// Writes one output of a gemv kernel.
template <class Shape, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void finish_gemv(float sum, int line, int vector, const T *bias, Out *out, const More *...more) {
  const int batch = blockIdx.z;
  if (Shape::BIAS) sum += float(bias[line * Shape::BIAS_LINE + vector * Shape::BIAS_VECTOR]);
  const T v = T(sum);
  finish<Epilogue, 1>(&v, batch * Shape::OUT_BATCH + line * Shape::OUT_LINE + vector * Shape::OUT_VECTOR, out, more...);
}

template <class Shape, int VT, int UNROLL, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void gemv_warp(const T *matrix, const T *vector, const typename NonDeduced<T>::Type *bias, Out *out, const More *...more) {
  enum : int {
    V = Shape::K % 4 == 0 && Shape::MATRIX_K == 1 && Shape::MATRIX_LINE % 4 == 0 && Shape::MATRIX_BATCH % 4 == 0 && Shape::VECTOR_K == 1 &&
                Shape::VECTOR_VECTOR % 4 == 0 && Shape::VECTOR_BATCH % 4 == 0
            ? 4
            : 1,
    STEP = 32 * V,
  };
  static_assert(Shape::VECTORS % VT == 0, "a warp has the same number of vectors as another");
  const int line = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, first = blockIdx.y * VT;
  if (line >= Shape::LINES) return; // the whole warp
  matrix += blockIdx.z * Shape::MATRIX_BATCH + line * Shape::MATRIX_LINE;
  vector += blockIdx.z * Shape::VECTOR_BATCH + first * Shape::VECTOR_VECTOR;
  float sum[VT] = {};
  const auto add = [&](int k) {
    float m[V], v[V];
    load_floats(m, matrix + k * Shape::MATRIX_K);
    HIOSC_UNROLL
    for (int i = 0; i < VT; ++i) {
      load_floats(v, vector + i * Shape::VECTOR_VECTOR + k * Shape::VECTOR_K);
      HIOSC_UNROLL
      for (int e = 0; e < V; ++e) sum[i] = fma(m[e], v[e], sum[i]);
    }
  };
  HIOSC_UNROLL_BY(UNROLL)
  for (int step = 0; step < Shape::K / STEP; ++step) add(step * STEP + lane * V);
  if (Shape::K % STEP != 0 && lane * V < Shape::K % STEP) add(Shape::K / STEP * STEP + lane * V);
  HIOSC_UNROLL
  for (int i = 0; i < VT; ++i) {
    sum[i] = combine_warp<ReduceSum>(sum[i]);
    if (lane == 0) finish_gemv<Shape, Epilogue, T>(sum[i], line, first + i, bias, out, more...);
  }
}

template <class Shape, int VT, int UNROLL, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void gemv_lines(const T *matrix, const T *vector, const typename NonDeduced<T>::Type *bias, Out *out, const More *...more) {
  enum : int { WARPS = THREADS / 32 };
  static_assert(Shape::VECTORS % VT == 0 && VT <= WARPS, "a block has the same number of vectors as another, and a warp for each");
  __shared__ float partial[WARPS][VT][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, line = blockIdx.x * 32 + lane, first = blockIdx.y * VT;
  matrix += blockIdx.z * Shape::MATRIX_BATCH + line * Shape::MATRIX_LINE;
  vector += blockIdx.z * Shape::VECTOR_BATCH + first * Shape::VECTOR_VECTOR;
  float sum[VT] = {};
  if (line < Shape::LINES) {
    const auto add = [&](int k) {
      const float m = float(matrix[k * Shape::MATRIX_K]);
      HIOSC_UNROLL
      for (int i = 0; i < VT; ++i) sum[i] = fma(m, float(vector[i * Shape::VECTOR_VECTOR + k * Shape::VECTOR_K]), sum[i]);
    };
    HIOSC_UNROLL_BY(UNROLL)
    for (int step = 0; step < Shape::K / WARPS; ++step) add(step * WARPS + warp);
    if (Shape::K % WARPS != 0 && warp < Shape::K % WARPS) add(Shape::K / WARPS * WARPS + warp);
  }
  HIOSC_UNROLL
  for (int i = 0; i < VT; ++i) partial[warp][i][lane] = sum[i];
  __syncthreads();
  if (warp >= VT || line >= Shape::LINES) return;
  float total = 0.0f;
  HIOSC_UNROLL_GPU
  for (int i = 0; i < WARPS; ++i) total += partial[i][warp][lane];
  finish_gemv<Shape, Epilogue, T>(total, line, first + warp, bias, out, more...);
}

template <class Shape, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void matmul_thread(const T *a, const T *b, const typename NonDeduced<T>::Type *bias, Out *c, const More *...more) {
  using S = Accumulate<T>;
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= Shape::BATCH * Shape::M * Shape::N) return;
  const int column = i % Shape::N, row = i / Shape::N % Shape::M, batch = i / (Shape::N * Shape::M);
  a += batch * Shape::A_BATCH + row * Shape::A_M;
  b += batch * Shape::B_BATCH + column * Shape::B_N;
  S sum = S(0);
  HIOSC_UNROLL_BY(unrolled(Shape::K, 64, 32))
  for (int k = 0; k < Shape::K; ++k) sum = fma(S(a[k * Shape::A_K]), S(b[k * Shape::B_K]), sum);
  if (Shape::BIAS) sum = Add<In<0>, In<1>>::apply(sum, S(bias[column]));
  const T v = convert<T>(sum);
  finish<Epilogue, 1>(&v, batch * Shape::C_BATCH + row * Shape::C_M + column * Shape::C_N, c, more...);
}

} // namespace hiosc
