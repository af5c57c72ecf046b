// A block's tile of a matrix product, C[BM x BN] += A[BM x K] * B[K x BN]; shared by convolution
// and matrix product.
//
//   lines      the rows of A, or the columns of B: what is not summed over
//   Tile       the shape: a block computes BM x BN, BK terms of the sum at a time; a thread
//              computes TM x TN of it in registers
//   loader     brings BK x LINES elements from global memory: fetch(k0) into registers, as floats;
//              commit(tile) from there into shared memory
//
// The main loop keeps two tiles in shared memory: while one is multiplied, the loads of the next
// are on their way, and one barrier per step is enough. Each output is summed in ascending order of
// k by one thread, so results do not depend on how blocks are scheduled.
#pragma once

#include "expr.cuh"

namespace hiosc {

template <int bm, int bn, int bk, int tm, int tn> struct Tile {
  enum : int { BM = bm, BN = bn, BK = bk, TM = tm, TN = tn, THREADS = (bm / tm) * (bn / tn) };
  static_assert(bm % tm == 0 && bn % tn == 0 && tm % 4 == 0 && tn % 4 == 0, "threads must cover the tile, four floats at a time");

  // A thread owns TM neighbouring rows, and TN columns in segments. On a GPU a segment is one
  // 16-byte access, and the segments of a warp are adjacent: no bank conflicts. A CPU prefers all
  // columns of a thread in one long vector.
  enum : int { SEGMENT = HIOSC_GPU ? 4 : tn, THREADS_N = bn / tn };
  static __device__ __forceinline__ int row(int thread) { return thread / THREADS_N * TM; }
  static __device__ __forceinline__ int column(int thread, int segment) {
    return segment * (THREADS_N * SEGMENT) + thread % THREADS_N * SEGMENT;
  }
};

// Rows of shared tiles are padded, so that neighbouring k of one line fall into different banks,
// and stay aligned to 16 bytes.
constexpr int kTilePad = 4;
template <int lines> using TileRow = float[lines + kTilePad];

// Loads a matrix addressed by element strides: `from[line * LINE_STRIDE + k * K_STRIDE]` for line <
// LINE_COUNT, k < K; zero beyond. ALIGNED says that `from` is aligned to four elements.
template <class T, class Tile, int LINES, int LINE_COUNT, int K, int LINE_STRIDE, int K_STRIDE, bool ALIGNED> class StridedLoader {
  // The direction in which neighbouring threads read, and the number of elements per read.
  enum : bool { ALONG_K = K_STRIDE == 1 || LINE_STRIDE != 1 };
  enum : int {
    QUADS = ALIGNED && (ALONG_K ? K_STRIDE == 1 && K % 4 == 0 && LINE_STRIDE % 4 == 0 : LINE_COUNT % 4 == 0 && K_STRIDE % 4 == 0),
    V = QUADS ? 4 : 1,
    ACROSS = (ALONG_K ? int(Tile::BK) : LINES) / V, // threads side by side
    PER_THREAD = LINES * Tile::BK / V / Tile::THREADS
  };
  static_assert(PER_THREAD * V * Tile::THREADS == LINES * Tile::BK, "threads must cover the tile");

  const T *from;
  int first_line, thread;
  float held[PER_THREAD][V];

public:
  __device__ __forceinline__ StridedLoader(const T *from, int first_line, int thread)
      : from(from), first_line(first_line), thread(thread) {}

  __device__ __forceinline__ void fetch(int k0) {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) {
      const int e = thread + i * Tile::THREADS;
      const int line = first_line + (ALONG_K ? e / ACROSS : e % ACROSS * V), k = k0 + (ALONG_K ? e % ACROSS * V : e / ACROSS);
      if (line < LINE_COUNT && (K % Tile::BK == 0 || k < K)) { // V neighbours are inside together
        load_floats(held[i], from + (line * LINE_STRIDE + k * K_STRIDE));
      } else {
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) held[i][v] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ void commit(TileRow<LINES> *tile) const {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) {
      const int e = thread + i * Tile::THREADS;
      if (ALONG_K) {
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) tile[e % ACROSS * V + v][e / ACROSS] = held[i][v];
      } else {
        store(&tile[e / ACROSS][e % ACROSS * V], held[i]);
      }
    }
  }
};

// One thread's part of the product of two tiles in shared memory.
template <class Tile>
__device__ __forceinline__ void multiply(float (&sum)[Tile::TM][Tile::TN], const TileRow<Tile::BM> *a, const TileRow<Tile::BN> *b,
                                         int thread) {
  HIOSC_UNROLL_GPU
  for (int k = 0; k < Tile::BK; ++k) {
    float left[Tile::TM], right[Tile::TN / Tile::SEGMENT][Tile::SEGMENT];
    load(left, &a[k][Tile::row(thread)]);
    HIOSC_UNROLL
    for (int s = 0; s < Tile::TN / Tile::SEGMENT; ++s) load(right[s], &b[k][Tile::column(thread, s)]);
    HIOSC_UNROLL
    for (int i = 0; i < Tile::TM; ++i) {
      HIOSC_UNROLL
      for (int j = 0; j < Tile::TN; ++j) sum[i][j] = fma(left[i], right[j / Tile::SEGMENT][j % Tile::SEGMENT], sum[i][j]);
    }
  }
}

// sum += A * B over `steps` tiles along k.
template <class Tile, class LoadA, class LoadB>
__device__ __forceinline__ void multiply_all(float (&sum)[Tile::TM][Tile::TN], int steps, LoadA &a, LoadB &b, int thread) {
  __shared__ __align__(16) float a_tiles[2][Tile::BK][Tile::BM + kTilePad];
  __shared__ __align__(16) float b_tiles[2][Tile::BK][Tile::BN + kTilePad];
  a.fetch(0);
  b.fetch(0);
  a.commit(a_tiles[0]);
  b.commit(b_tiles[0]);
  __syncthreads();
  HIOSC_UNROLL_BY(1)
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) {
      a.fetch((step + 1) * Tile::BK);
      b.fetch((step + 1) * Tile::BK);
    }
    multiply<Tile>(sum, a_tiles[step % 2], b_tiles[step % 2], thread);
    if (!more) break;
    a.commit(a_tiles[(step + 1) % 2]); // last read one step ago, before the barrier
    b.commit(b_tiles[(step + 1) % 2]);
    __syncthreads();
  }
}

// V neighbours of each input.
template <int V> __device__ __forceinline__ void read_neighbours(Vectors<V> &, int) {}
template <int V, class T, class... Rest>
__device__ __forceinline__ void read_neighbours(Vectors<V, T, Rest...> &to, int at, const T *x, const Rest *...rest) {
  load(to.first, x + at);
  read_neighbours(to.rest, at, rest...);
}

// Finishes V neighbouring outputs: reads the epilogue's further inputs at `at`, applies the
// epilogue, writes y.
template <class Epilogue, int V, class Sum, class T, class... More>
__device__ __forceinline__ void finish(const Sum *sums, int at, T *y, const More *...more) {
  Vectors<V, Sum, More...> x;
  T out[V];
  HIOSC_UNROLL
  for (int v = 0; v < V; ++v) x.first[v] = sums[v];
  read_neighbours(x.rest, at, more...);
  HIOSC_UNROLL
  for (int v = 0; v < V; ++v) out[v] = Epilogue::eval(point(x, v));
  store(y + at, out);
}

} // namespace hiosc
