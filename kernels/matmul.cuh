// Batched matrix product with element strides: c[b,i,j] = epilogue(sum over k of a[b,i,k] *
// b[b,k,j] + bias[j]).
//
//   matmul_tiled   tiles in shared memory. Grid: (column tiles, row tiles, batch)
//   gemv_warp      for one or a few rows, where the matrix is contiguous along k: one warp per
//                  output. Grid: (LINES / (THREADS / 32), vectors, batch)
//   gemv_lines     for one or a few rows, where the matrix is contiguous along its other axis: one
//                  block per 32 neighbouring outputs; its warps share the sums.
//                  Grid: (LINES / 32, vectors, batch)
//   matmul_thread  for integers and double: one thread per output.
//                  Grid: (BATCH * M * N / THREADS, 1, 1)
//
// Shape of matmul_tiled and matmul_thread is a type with the integer constants
//   BATCH M N K   A_BATCH A_M A_K   B_BATCH B_K B_N   C_BATCH C_M C_N (strides)   BIAS (0 or 1)
// The gemv kernels multiply a matrix of LINES lines by VECTORS vectors; either a or b may be the
// matrix. Their Shape has
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
__device__ __forceinline__ void finish_gemv(float sum, int line, const T *bias, Out *out, const More *...more) {
  const int vector = blockIdx.y, batch = blockIdx.z;
  if (Shape::BIAS) sum += float(bias[line * Shape::BIAS_LINE + vector * Shape::BIAS_VECTOR]);
  const T v = T(sum);
  finish<Epilogue, 1>(&v, batch * Shape::OUT_BATCH + line * Shape::OUT_LINE + vector * Shape::OUT_VECTOR, out, more...);
}

template <class Shape, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void gemv_warp(const T *matrix, const T *vector, const typename NonDeduced<T>::Type *bias, Out *out, const More *...more) {
  enum : int {
    V = Shape::K % 4 == 0 && Shape::MATRIX_K == 1 && Shape::MATRIX_LINE % 4 == 0 && Shape::MATRIX_BATCH % 4 == 0 && Shape::VECTOR_K == 1 &&
                Shape::VECTOR_VECTOR % 4 == 0 && Shape::VECTOR_BATCH % 4 == 0
            ? 4
            : 1
  };
  const int line = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (line >= Shape::LINES) return; // the whole warp
  matrix += blockIdx.z * Shape::MATRIX_BATCH + line * Shape::MATRIX_LINE;
  vector += blockIdx.z * Shape::VECTOR_BATCH + blockIdx.y * Shape::VECTOR_VECTOR;
  float sum = 0.0f;
  HIOSC_UNROLL_BY(unrolled_strided(Shape::K, 32 * V))
  for (int k = lane * V; k < Shape::K; k += 32 * V) {
    float m[V], v[V];
    load_floats(m, matrix + k * Shape::MATRIX_K);
    load_floats(v, vector + k * Shape::VECTOR_K);
    HIOSC_UNROLL
    for (int e = 0; e < V; ++e) sum = fma(m[e], v[e], sum);
  }
  sum = combine_warp<ReduceSum>(sum);
  if (lane == 0) finish_gemv<Shape, Epilogue, T>(sum, line, bias, out, more...);
}

template <class Shape, int THREADS, class Epilogue, class T, class Out, class... More>
__device__ __forceinline__ void gemv_lines(const T *matrix, const T *vector, const typename NonDeduced<T>::Type *bias, Out *out, const More *...more) {
  enum : int { WARPS = THREADS / 32 };
  __shared__ float partial[WARPS][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, line = blockIdx.x * 32 + lane;
  matrix += blockIdx.z * Shape::MATRIX_BATCH + line * Shape::MATRIX_LINE;
  vector += blockIdx.z * Shape::VECTOR_BATCH + blockIdx.y * Shape::VECTOR_VECTOR;
  float sum = 0.0f;
  if (line < Shape::LINES) {
    HIOSC_UNROLL_GPU
    for (int k = warp; k < Shape::K; k += WARPS) sum = fma(float(matrix[k * Shape::MATRIX_K]), float(vector[k * Shape::VECTOR_K]), sum);
  }
  partial[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || line >= Shape::LINES) return;
  HIOSC_UNROLL_GPU
  for (int i = 1; i < WARPS; ++i) sum += partial[i][lane];
  finish_gemv<Shape, Epilogue, T>(sum, line, bias, out, more...);
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
