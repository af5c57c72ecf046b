// Convolution and matrix product as one family: a matrix product C[M x N] = A[M x K] * B[K x N]
// whose operands are gathered from memory while it runs. Single precision throughout; compute
// capability 8.0 and above.
//
//   conv_gather     y[N,K,P,Q] = epilogue(x[N,C,H,W] * w + bias[K]): the weights are A, the windows
//                   of x are B and never stored. Grid: (pixel tiles, filter tiles, groups * SPLIT)
//   matmul_gather   c[b,i,j] = epilogue(sum over k of a[b,i,k] * b[b,k,j] + bias[j])
//                   Grid: (column tiles, row tiles, batch * SPLIT)
//
// A block computes a tile of C, 16 terms of the sums per step. The steps go through a ring of
// STAGES tiles in dynamic shared memory, which asynchronous copies fill STAGES - 1 steps ahead. The
// operands of term k + AHEAD are read from shared memory into registers while term k is multiplied.
//
// Loaders differ in where they read:
//
//   PackedLoader   constants, packed when the crate is made: [step][16][lines, padded to 128]
//                  (src/kernel/packing.rs). Copies of 16 bytes, no test
//   PlaneLoader    windows of one element: the planes of x themselves
//   TapLoader      all other windows. The terms go tap by tap, and within a tap channel by channel,
//                  so a step's terms are one plane apart. Two masks per thread say which rows and
//                  columns of its window are inside the image
//   MatrixLoader   a matrix given by strides
//
// SPLIT > 1: as many blocks share the sums of one tile. Each writes its partial sums to the
// workspace, and the last to finish adds them up in the order of the parts, so the result does not
// depend on the order of blocks. `counters` has one count per tile, zero between launches.
//
// The Shapes are those of conv.cuh and of matmul_tiled in matmul.cuh.
#pragma once

#include "async_copy.cuh"
#include "conv.cuh"
#include "expr.cuh"
#include "tile.cuh"

namespace hiosc {

// A tile of tile.cuh in a ring of STAGES.
template <int bm, int bn, int tm, int tn, int stages> struct GatherTile : Tile<bm, bn, 16, tm, tn> {
  enum : int { STAGES = stages };
  // Terms that are read ahead: about 32 multiplications hide the latency of shared memory.
  enum : int { AHEAD = tm * tn >= 32 ? 1 : 2, SETS = 2 * AHEAD };
  static constexpr int shared_floats = stages * 16 * (bm + bn + 2 * kTilePad);
};

// Which part of the sums a block computes, and where its partial sums go.
template <int split> struct Parts {
  enum : int { SPLIT = split };
  float *workspace = nullptr;
  unsigned *counters = nullptr;
};

// The lines [first_line, first_line + LINES) of constants packed in steps. `packed` points to the
// first step that is wanted; PADDED is the number of lines in memory.
template <class Tile, int LINES, int PADDED> class PackedLoader {
  enum : int { ACROSS = LINES / 4, ROWS = Tile::THREADS / ACROSS, PER_THREAD = Tile::BK / ROWS };
  static_assert(ROWS * ACROSS == Tile::THREADS && PER_THREAD * ROWS == Tile::BK, "threads must cover the tile");
  const float *from;
  int row, line;

public:
  __device__ __forceinline__ PackedLoader(const float *packed, int first_line, int thread) {
    row = thread / ACROSS;
    line = thread % ACROSS * 4;
    from = packed + row * PADDED + first_line + line;
  }

  __device__ __forceinline__ void fetch(TileRow<LINES> *tile) {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) copy_async<16>(&tile[row + i * ROWS][line], from + i * (ROWS * PADDED));
    from += Tile::BK * PADDED;
  }
};

// A matrix at `from`: element (line, k) is `from[line * LINE_STRIDE + k * K_STRIDE]`, zero beyond
// LINE_COUNT and K. ALIGNED says that `from` is aligned to four elements.
template <class Tile, int LINES, int LINE_COUNT, int K, int LINE_STRIDE, int K_STRIDE, bool ALIGNED> class MatrixLoader {
  // The direction in which neighbouring threads read. A copy cannot transpose, so only lines that
  // are neighbours in memory come in fours.
  enum : bool { ALONG_K = K_STRIDE == 1 && LINE_STRIDE != 1 };
  enum : int {
    V = ALIGNED && LINE_STRIDE == 1 && LINE_COUNT % 4 == 0 && K_STRIDE % 4 == 0 && LINES * Tile::BK / 4 >= Tile::THREADS ? 4 : 1,
    ACROSS = ALONG_K ? int(Tile::BK) : LINES / V, // threads side by side
    DOWN = Tile::THREADS / ACROSS,
    PER_THREAD = LINES * Tile::BK / V / Tile::THREADS,
    LINE_STEP = ALONG_K ? int(DOWN) : 0, // from one copy of a thread to its next
    K_STEP = ALONG_K ? 0 : int(DOWN),
  };
  static_assert(DOWN * ACROSS == Tile::THREADS && PER_THREAD * V * Tile::THREADS == LINES * Tile::BK, "threads must cover the tile");
  const float *from;
  int k, line; // the first copy's, in the tile
  int lines_left, terms_left;

  // 64 bits: lines and terms beyond the end have no limit of 2^31 elements.
  static __device__ __forceinline__ long long offset(long long line, long long k) { return line * LINE_STRIDE + k * K_STRIDE; }

public:
  __device__ __forceinline__ MatrixLoader(const float *matrix, int first_line, int first_k, int thread) {
    k = ALONG_K ? thread % ACROSS : thread / ACROSS;
    line = ALONG_K ? thread / ACROSS : thread % ACROSS * V;
    from = matrix + offset(first_line + line, first_k + k);
    lines_left = LINE_COUNT - first_line - line;
    terms_left = K - first_k - k;
  }

  __device__ __forceinline__ void fetch(TileRow<LINES> *tile) {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) {
      // V neighbours are inside together
      const bool inside = i * LINE_STEP < lines_left && (K % Tile::BK == 0 || i * K_STEP < terms_left);
      copy_async<4 * V>(&tile[k + i * K_STEP][line + i * LINE_STEP], from + offset(i * LINE_STEP, i * K_STEP), inside);
    }
    from += offset(0, Tile::BK);
    terms_left -= Tile::BK;
  }
};

// One term of BN windows of one element, which is a plane of x.
template <class Shape, class Tile> class PlaneLoader {
  using Traits = ConvTraits<Shape>;
  enum : int {
    V = Traits::PIXELS % 4 == 0 && Tile::BN * Tile::BK / 4 >= Tile::THREADS ? 4 : 1,
    ACROSS = Tile::BN / V,
    ROWS = Tile::THREADS / ACROSS, // rows of the tile that all threads copy at once
    PER_THREAD = Tile::BK / ROWS,
  };
  static_assert(ROWS * ACROSS == Tile::THREADS && PER_THREAD * ROWS == Tile::BK, "threads must cover the tile");
  const float *from;
  int row, column, channels_left;

  // 64 bits: channels beyond the end have no limit of 2^31 elements.
  static __device__ __forceinline__ long long planes(long long count) { return count * Traits::PLANE; }

public:
  __device__ __forceinline__ PlaneLoader(const float *x, int first_column, int first_step, int thread) {
    row = thread / ACROSS;
    column = thread % ACROSS * V;
    const int pixel = first_column + column, channel = first_step * Tile::BK + row;
    const int image = Shape::N == 1 ? 0 : pixel / Traits::PIXELS; // V neighbours are in one image
    from = x + planes(image * Shape::C + channel) + (pixel - image * Traits::PIXELS);
    channels_left = pixel < Shape::N * Traits::PIXELS ? Traits::CHANNELS - channel : 0;
  }

  __device__ __forceinline__ void fetch(TileRow<Tile::BN> *tile) {
    HIOSC_UNROLL
    for (int i = 0; i < PER_THREAD; ++i) {
      const bool inside = (Traits::CHANNELS % Tile::BK == 0 ? 0 : i * ROWS) < channels_left;
      copy_async<4 * V>(&tile[row + i * ROWS][column], from + planes(i * ROWS), inside);
    }
    from += planes(Tile::BK);
    channels_left -= Traits::CHANNELS % Tile::BK == 0 ? 0 : Tile::BK;
  }
};

// BN windows of several elements, or with a stride or padding. Where the terms of a step belong to
// several taps, each lane of a warp follows one term, and tells the others where it is.
template <class Shape, class Tile> class TapLoader {
  using Traits = ConvTraits<Shape>;
  enum : int { ROWS = Tile::THREADS / Tile::BN, PER_THREAD = Tile::BK / ROWS };
  static_assert(ROWS * Tile::BN == Tile::THREADS && PER_THREAD * ROWS == Tile::BK, "threads must cover the tile");
  static_assert(Shape::R <= 32 && Shape::S <= 32, "a mask has a bit per row and per column of a window");
  // WHOLE: all terms of a step belong to one tap.
  enum : bool { WHOLE = Traits::CHANNELS % Tile::BK == 0 };

  const float *window; // of channel `row` in this column's image, at the window's first element, which may be outside
  unsigned rows_inside, columns_inside;
  int row, column;
  int channel, tap; // WHOLE: of the step's first term
  int term, r, s;   // otherwise: a term of the step, and its tap. Each lane follows one
  const float *from;
  bool inside;

  __device__ __forceinline__ bool is_inside(int tap) const {
    return (rows_inside >> tap / Shape::S & columns_inside >> tap % Shape::S & 1) != 0;
  }
  static __device__ __forceinline__ int offset(int tap) {
    return tap / Shape::S * (Shape::DILATION_H * Shape::W) + tap % Shape::S * Shape::DILATION_W;
  }
  __device__ __forceinline__ void begin_tap() {
    from = window + (channel * Traits::PLANE + offset(tap));
    inside = tap < Traits::TAPS && is_inside(tap);
  }

public:
  __device__ __forceinline__ TapLoader(const float *x, int first_column, int first_step, int thread) {
    row = thread / Tile::BN;
    column = thread % Tile::BN;
    const int all = first_column + column, image = Shape::N == 1 ? 0 : all / Traits::PIXELS, pixel = all - image * Traits::PIXELS;
    const int top = pixel / Shape::Q * Shape::STRIDE_H - Shape::PAD_H, left = pixel % Shape::Q * Shape::STRIDE_W - Shape::PAD_W;
    rows_inside = columns_inside = 0;
    if (all < Shape::N * Traits::PIXELS) {
      HIOSC_UNROLL
      for (int r = 0; r < Shape::R; ++r) rows_inside |= unsigned(unsigned(top + r * Shape::DILATION_H) < unsigned(Shape::H)) << r;
      HIOSC_UNROLL
      for (int s = 0; s < Shape::S; ++s) columns_inside |= unsigned(unsigned(left + s * Shape::DILATION_W) < unsigned(Shape::W)) << s;
    }
    window = x + (long long)(image * Shape::C + (WHOLE ? row : 0)) * Traits::PLANE + (top * Shape::W + left);
    if (WHOLE) {
      tap = first_step / (Traits::CHANNELS / Tile::BK);
      channel = first_step % (Traits::CHANNELS / Tile::BK) * Tile::BK;
      begin_tap();
    } else {
      term = first_step * Tile::BK + thread % Tile::BK;
      channel = term % Traits::CHANNELS;
      r = term / Traits::CHANNELS / Shape::S;
      s = term / Traits::CHANNELS % Shape::S;
    }
  }

  __device__ __forceinline__ void fetch(TileRow<Tile::BN> *tile) {
    if constexpr (WHOLE) {
      HIOSC_UNROLL
      for (int i = 0; i < PER_THREAD; ++i) {
        copy_async<4>(&tile[row + i * ROWS][column], from + i * (ROWS * Traits::PLANE), inside);
      }
      from += Tile::BK * Traits::PLANE;
      channel += Tile::BK;
      if (channel == Traits::CHANNELS) { // the only place that divides
        channel = 0;
        ++tap;
        begin_tap();
      }
    } else {
      const int place = term < Traits::TERMS ? r * 32 + s : -1;
      const int offset = channel * Traits::PLANE + r * (Shape::DILATION_H * Shape::W) + s * Shape::DILATION_W;
      HIOSC_UNROLL
      for (int i = 0; i < PER_THREAD; ++i) {
        const int at = row + i * ROWS, its_place = __shfl_sync(~0u, place, at), its_offset = __shfl_sync(~0u, offset, at);
        copy_async<4>(&tile[at][column], window + its_offset,
                      its_place >= 0 && (rows_inside >> its_place / 32 & columns_inside >> its_place % 32 & 1) != 0);
      }
      term += Tile::BK;
      channel += Tile::BK % Traits::CHANNELS;
      s += Tile::BK / Traits::CHANNELS % Shape::S;
      r += Tile::BK / Traits::CHANNELS / Shape::S;
      if (channel >= Traits::CHANNELS) channel -= Traits::CHANNELS, ++s;
      if (s >= Shape::S) s -= Shape::S, ++r;
    }
  }
};

// A thread's operands of one term.
template <class Tile> struct Fragment {
  float left[Tile::TM], right[Tile::TN / Tile::SEGMENT][Tile::SEGMENT];

  __device__ __forceinline__ void read(const TileRow<Tile::BM> &a, const TileRow<Tile::BN> &b, int thread) {
    load(left, &a[Tile::row(thread)]);
    HIOSC_UNROLL
    for (int s = 0; s < Tile::TN / Tile::SEGMENT; ++s) load(right[s], &b[Tile::column(thread, s)]);
  }

  __device__ __forceinline__ void multiply(float (&sum)[Tile::TM][Tile::TN]) const {
    HIOSC_UNROLL
    for (int i = 0; i < Tile::TM; ++i) {
      HIOSC_UNROLL
      for (int j = 0; j < Tile::TN; ++j) sum[i][j] = fma(left[i], right[j / Tile::SEGMENT][j % Tile::SEGMENT], sum[i][j]);
    }
  }
};

// sum = A * B over `steps` steps, at least one.
template <class Tile, class LoadA, class LoadB>
__device__ __forceinline__ void multiply_gathered(float (&sum)[Tile::TM][Tile::TN], int steps, LoadA &a, LoadB &b, float *shared, int thread) {
  enum : int { BK = Tile::BK, STAGES = Tile::STAGES, AHEAD = Tile::AHEAD, SETS = Tile::SETS };
  static_assert(BK % SETS == 0 && AHEAD < SETS && AHEAD < BK, "the sets of registers must be known when compiling");
  auto *const a_tiles = reinterpret_cast<TileRow<Tile::BM> *>(shared);
  auto *const b_tiles = reinterpret_cast<TileRow<Tile::BN> *>(shared + STAGES * BK * (Tile::BM + kTilePad));
  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    HIOSC_UNROLL
    for (int j = 0; j < Tile::TN; ++j) sum[i][j] = 0.0f;
  }

  HIOSC_UNROLL
  for (int stage = 0; stage < STAGES - 1; ++stage) {
    if (stage < steps) {
      a.fetch(a_tiles + stage * BK);
      b.fetch(b_tiles + stage * BK);
    }
    commit_copies(); // an empty group, too: wait_copies counts groups
  }
  wait_copies<STAGES - 2>();
  __syncthreads();

  Fragment<Tile> fragments[SETS];
  HIOSC_UNROLL
  for (int k = 0; k < AHEAD; ++k) fragments[k].read(a_tiles[k], b_tiles[k], thread);

  int reading = 0, writing = STAGES - 1;
  HIOSC_UNROLL_BY(1)
  for (int step = 0; step < steps; ++step) {
    if (step + STAGES - 1 < steps) { // into the stage that all threads finished reading before the last barrier
      a.fetch(a_tiles + writing * BK);
      b.fetch(b_tiles + writing * BK);
    }
    commit_copies();
    writing = writing + 1 == STAGES ? 0 : writing + 1;
    const int next = reading + 1 == STAGES ? 0 : reading + 1;
    HIOSC_UNROLL
    for (int k = 0; k < BK; ++k) {
      if (k == BK - AHEAD) { // the rest of this step is in registers
        wait_copies<STAGES - 2>();
        __syncthreads();
      }
      const int from = k + AHEAD < BK ? reading * BK + k + AHEAD : next * BK + k + AHEAD - BK;
      fragments[(k + AHEAD) % SETS].read(a_tiles[from], b_tiles[from], thread);
      fragments[k % SETS].multiply(sum);
    }
    reading = next;
  }
}

// Four neighbours that other blocks have written, from the L2 cache: an L1 cache may hold old
// values.
__device__ __forceinline__ void load_of_blocks(float (&to)[4], const float *from) {
#if HIOSC_GPU
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
               : "l"(from)
               : "memory");
#else
  load(to, from);
#endif
}

// Adds up the partial sums of the blocks that share tile number `tile`. Returns whether this block
// is the last of them, which has the total in `sum`.
template <class Tile, class Parts>
__device__ __forceinline__ bool add_parts(float (&sum)[Tile::TM][Tile::TN], const Parts &parts, int tile, int part, float *shared, int thread) {
  enum : int { QUADS = Tile::TM * Tile::TN / 4, PART = Tile::TM * Tile::TN * Tile::THREADS };
  float *const first = parts.workspace + (tile * Parts::SPLIT * PART + thread * 4);
  HIOSC_UNROLL
  for (int q = 0; q < QUADS; ++q) {
    float out[4];
    HIOSC_UNROLL
    for (int e = 0; e < 4; ++e) out[e] = sum[q * 4 / Tile::TN][q * 4 % Tile::TN + e];
    store(first + (part * PART + q * (Tile::THREADS * 4)), out);
  }
  __threadfence(); // the partial sums are visible before the count
  __syncthreads();
  unsigned *const before = reinterpret_cast<unsigned *>(shared);
  if (thread == 0) *before = atomicAdd(parts.counters + tile, 1u);
  __syncthreads();
  if (*before != Parts::SPLIT - 1) return false;
  __threadfence();
  if (thread == 0) parts.counters[tile] = 0; // for the next launch
  // 16 KB and more are on their way at a time; the registers of the main loop hold no more.
  enum : int { AT_ONCE = QUADS <= 4 ? 16 / QUADS : 1 };
  HIOSC_UNROLL_BY(1)
  for (int p = 0; p < Parts::SPLIT; p += AT_ONCE) {
    float in[AT_ONCE][QUADS][4];
    HIOSC_UNROLL
    for (int a = 0; a < AT_ONCE; ++a) {
      HIOSC_UNROLL
      for (int q = 0; q < QUADS; ++q) {
        if (p + a < Parts::SPLIT) load_of_blocks(in[a][q], first + ((p + a) * PART + q * (Tile::THREADS * 4)));
      }
    }
    HIOSC_UNROLL
    for (int a = 0; a < AT_ONCE; ++a) {
      if (p + a >= Parts::SPLIT) break;
      HIOSC_UNROLL
      for (int q = 0; q < QUADS; ++q) {
        HIOSC_UNROLL
        for (int e = 0; e < 4; ++e) {
          float &total = sum[q * 4 / Tile::TN][q * 4 % Tile::TN + e];
          total = p + a == 0 ? in[a][q][e] : total + in[a][q][e];
        }
      }
    }
  }
  return true;
}

// A thread's biases, one per row or column of its outputs, read before the sums so that they need
// not be waited for.
template <class Tile, bool BY_ROW> struct BiasValues {
  float values[BY_ROW ? int(Tile::TM) : int(Tile::TN)];

  __device__ __forceinline__ BiasValues(const float *bias, int first_row, int first_column, int rows, int columns, int thread) {
    HIOSC_UNROLL
    for (int i = 0; i < (BY_ROW ? int(Tile::TM) : int(Tile::TN)); ++i) {
      const int at = BY_ROW ? first_row + Tile::row(thread) + i
                            : first_column + Tile::column(thread, i / Tile::SEGMENT) + i % Tile::SEGMENT;
      values[i] = at < (BY_ROW ? rows : columns) ? bias[at] : 0.0f;
    }
  }
  __device__ __forceinline__ float of(int i, int j) const { return values[BY_ROW ? i : j]; }
};
struct NoBias {
  __device__ __forceinline__ float of(int, int) const { return 0.0f; }
};
template <class Bias, class... Where> __device__ __forceinline__ Bias read_bias(const float *bias, Where... where) {
  if constexpr (same<Bias, NoBias>) return NoBias{};
  else return Bias(bias, where...);
}

// Reads V neighbours of each input here and now: the compiler must not move the loads behind the
// branch that needs them, one at a time.
template <int V, class T> __device__ __forceinline__ void load_now(T (&to)[V], const T *from) {
#if HIOSC_GPU
  if constexpr (same<T, float> && V == 4) {
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3]) : "l"(from));
    return;
  } else if constexpr (same<T, float> && V == 1) {
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(to[0]) : "l"(from));
    return;
  }
#endif
  load(to, from);
}
template <int V> __device__ __forceinline__ void read_now(Vectors<V> &, int) {}
template <int V, class T, class... Rest>
__device__ __forceinline__ void read_now(Vectors<V, T, Rest...> &to, int at, const T *x, const Rest *...rest) {
  load_now(to.first, x + at);
  read_now(to.rest, at, rest...);
}

// Finishes a thread's outputs: bias, epilogue, store. `row_at` and `column_at` are the parts of an
// output's offset that its row and its column determine, negative outside the result. V
// neighbouring columns are inside together. The epilogue's further inputs of several rows are read
// at once and without a branch: those of outputs outside the result from the first element.
template <class Tile, class Epilogue, int V, class Bias, class Out, class... More>
__device__ __forceinline__ void finish_tile(const float (&sum)[Tile::TM][Tile::TN], const Bias &bias, const int (&row_at)[Tile::TM],
                                            const int (&column_at)[Tile::TN / V], Out *y, const More *...more) {
  enum : int { ROWS = sizeof...(More) == 0 || Tile::TN > 16 ? 1 : Tile::TM * Tile::TN <= 32 ? int(Tile::TM) : 32 / Tile::TN };
  HIOSC_UNROLL
  for (int first = 0; first < Tile::TM; first += ROWS) {
    Vectors<V, float, More...> x[ROWS][Tile::TN / V];
    HIOSC_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      HIOSC_UNROLL
      for (int j = 0; j < Tile::TN / V; ++j) {
        const int i = first + r;
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) x[r][j].first[v] = sum[i][j * V + v] + bias.of(i, j * V + v);
        read_now(x[r][j].rest, row_at[i] < 0 || column_at[j] < 0 ? 0 : row_at[i] + column_at[j], more...);
      }
    }
    HIOSC_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      HIOSC_UNROLL
      for (int j = 0; j < Tile::TN / V; ++j) {
        Out out[V];
        HIOSC_UNROLL
        for (int v = 0; v < V; ++v) out[v] = Epilogue::eval(point(x[r][j], v));
        if (row_at[first + r] >= 0 && column_at[j] >= 0) store(y + (row_at[first + r] + column_at[j]), out);
      }
    }
  }
}

// The steps of one part: as equal as possible.
template <int SPLIT> __device__ __forceinline__ int first_step(int steps, int part) {
  return int((long long)(part) * steps / SPLIT);
}

template <class Shape, class Tile, class Epilogue, class Parts, class Out, class... More>
__device__ __forceinline__ void conv_gather(const float *x, const float *w, const float *bias, Out *y, Parts parts, const More *...more) {
  using Traits = ConvTraits<Shape>;
  enum : int {
    V = Traits::PIXELS % 4 == 0 ? 4 : 1,
    COLUMNS = Shape::N * Traits::PIXELS,
    STEPS = ceil_div(Traits::TERMS, Tile::BK),
    PADDED = ceil_div(Traits::FILTERS, 128) * 128,
  };
  HIOSC_DYNAMIC_SHARED(float, shared);
  const int thread = threadIdx.x, group = blockIdx.z / Parts::SPLIT, part = blockIdx.z % Parts::SPLIT;
  const int first_row = blockIdx.y * Tile::BM, first_column = blockIdx.x * Tile::BN;
  const int first = first_step<Parts::SPLIT>(STEPS, part), end = first_step<Parts::SPLIT>(STEPS, part + 1);

  using Bias = typename If<Shape::BIAS != 0, BiasValues<Tile, true>, NoBias>::Type;
  const Bias biases = read_bias<Bias>(Shape::BIAS ? bias + group * Traits::FILTERS : nullptr, first_row, 0, Traits::FILTERS, 0, thread);
  float sum[Tile::TM][Tile::TN];
  PackedLoader<Tile, Tile::BM, PADDED> weights(w + (group * STEPS + first) * (Tile::BK * PADDED), first_row, thread);
  const float *const channels = x + group * (Traits::CHANNELS * Traits::PLANE);
  typename If<Traits::POINTWISE, PlaneLoader<Shape, Tile>, TapLoader<Shape, Tile>>::Type windows(channels, first_column, first, thread);
  multiply_gathered<Tile>(sum, end - first, weights, windows, shared, thread);
  if constexpr (Parts::SPLIT > 1) {
    const int tile = (group * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    if (!add_parts<Tile>(sum, parts, tile, part, shared, thread)) return;
  }

  int row_at[Tile::TM], column_at[Tile::TN / V];
  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    const int row = first_row + Tile::row(thread) + i;
    row_at[i] = row < Traits::FILTERS ? (group * Traits::FILTERS + row) * Traits::PIXELS : -1;
  }
  HIOSC_UNROLL
  for (int j = 0; j < Tile::TN; j += V) {
    const int column = first_column + Tile::column(thread, j / Tile::SEGMENT) + j % Tile::SEGMENT;
    const int image = Shape::N == 1 ? 0 : column / Traits::PIXELS;
    column_at[j / V] = column < COLUMNS ? image * (Shape::K * Traits::PIXELS) + (column - image * Traits::PIXELS) : -1;
  }
  finish_tile<Tile, Epilogue, V>(sum, biases, row_at, column_at, y, more...);
}

// The operands of a matrix product: strides, or packed constants. Each makes a loader.
template <class Shape> struct StridedA {
  template <class Tile> using Loader = MatrixLoader<Tile, Tile::BM, Shape::M, Shape::K, Shape::A_M, Shape::A_K, Shape::A_BATCH % 4 == 0>;
  template <class Tile> static __device__ __forceinline__ Loader<Tile> loader(const float *a, int batch, int first_line, int step, int thread) {
    return Loader<Tile>(a + batch * Shape::A_BATCH, first_line, step * Tile::BK, thread);
  }
};
template <class Shape> struct StridedB {
  template <class Tile> using Loader = MatrixLoader<Tile, Tile::BN, Shape::N, Shape::K, Shape::B_N, Shape::B_K, Shape::B_BATCH % 4 == 0>;
  template <class Tile> static __device__ __forceinline__ Loader<Tile> loader(const float *b, int batch, int first_line, int step, int thread) {
    return Loader<Tile>(b + batch * Shape::B_BATCH, first_line, step * Tile::BK, thread);
  }
};
// One matrix for the whole batch, or one per product.
template <class Shape, int LINES, bool ALIKE, bool ROWS> struct Packed {
  enum : int { PADDED = ceil_div(LINES, 128) * 128 };
  template <class Tile> using Loader = PackedLoader<Tile, ROWS ? int(Tile::BM) : int(Tile::BN), PADDED>;
  template <class Tile> static __device__ __forceinline__ Loader<Tile> loader(const float *packed, int batch, int first_line, int step, int thread) {
    const int steps = ceil_div(Shape::K, Tile::BK);
    return Loader<Tile>(packed + ((ALIKE ? 0 : batch * steps) + step) * (Tile::BK * PADDED), first_line, thread);
  }
};
template <class Shape, bool ALIKE> using PackedA = Packed<Shape, Shape::M, ALIKE, true>;
template <class Shape, bool ALIKE> using PackedB = Packed<Shape, Shape::N, ALIKE, false>;

template <class Shape, class Tile, class A, class B, class Epilogue, class Parts, class Out, class... More>
__device__ __forceinline__ void matmul_gather(const float *a, const float *b, const float *bias, Out *c, Parts parts, const More *...more) {
  enum : int {
    V = Shape::C_N == 1 && Shape::N % 4 == 0 && Shape::C_M % 4 == 0 && Shape::C_BATCH % 4 == 0 ? 4 : 1,
    STEPS = ceil_div(Shape::K, Tile::BK),
  };
  HIOSC_DYNAMIC_SHARED(float, shared);
  const int thread = threadIdx.x, batch = blockIdx.z / Parts::SPLIT, part = blockIdx.z % Parts::SPLIT;
  const int first_row = blockIdx.y * Tile::BM, first_column = blockIdx.x * Tile::BN;
  const int first = first_step<Parts::SPLIT>(STEPS, part), end = first_step<Parts::SPLIT>(STEPS, part + 1);

  using Bias = typename If<Shape::BIAS != 0, BiasValues<Tile, false>, NoBias>::Type;
  const Bias biases = read_bias<Bias>(bias, 0, first_column, 0, Shape::N, thread);
  float sum[Tile::TM][Tile::TN];
  auto rows = A::template loader<Tile>(a, batch, first_row, first, thread);
  auto columns = B::template loader<Tile>(b, batch, first_column, first, thread);
  multiply_gathered<Tile>(sum, end - first, rows, columns, shared, thread);
  if constexpr (Parts::SPLIT > 1) {
    const int tile = (batch * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    if (!add_parts<Tile>(sum, parts, tile, part, shared, thread)) return;
  }

  int row_at[Tile::TM], column_at[Tile::TN / V];
  HIOSC_UNROLL
  for (int i = 0; i < Tile::TM; ++i) {
    const int row = first_row + Tile::row(thread) + i;
    row_at[i] = row < Shape::M ? batch * Shape::C_BATCH + row * Shape::C_M : -1;
  }
  HIOSC_UNROLL
  for (int j = 0; j < Tile::TN; j += V) {
    const int column = first_column + Tile::column(thread, j / Tile::SEGMENT) + j % Tile::SEGMENT;
    column_at[j / V] = column < Shape::N ? column * Shape::C_N : -1;
  }
  finish_tile<Tile, Epilogue, V>(sum, biases, row_at, column_at, c, more...);
}

} // namespace hiosc
