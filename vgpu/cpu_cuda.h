// CUDA on the CPU: what kernel headers need to be compiled by g++ (or clang++) and run, unchanged.
//
// The threads of one block are *fibers*: functions with separate stacks that take turns on one
// thread of the operating system. A fiber runs until it reaches a barrier or a warp collective that
// others have not reached yet. Then the next runnable fiber continues. A switch saves six registers
// and takes a few nanoseconds. An operating-system thread runs its blocks one after another. The
// blocks of a launch may be distributed over several such threads, so everything here is
// thread_local and no fiber ever changes its thread. Kernels that use neither barriers nor
// collectives (HIOSC_KERNEL_NO_SYNC) need no fibers and run as a plain loop over threadIdx.
//
// Scheduling uses bit masks, one set per warp, one bit per lane:
//   alive     the thread has not returned from the kernel
//   runnable  it neither waits nor has returned
//   waiting   it waits in a collective (the rest of `alive & ~runnable` waits at the block barrier)
// A barrier opens when no lane is runnable and none waits in a collective. A collective completes
// when every live lane of its mask has arrived; the last one to arrive computes the results of all.
// If no lane is runnable and no barrier can open, the kernel is wrong (some threads skip a barrier
// or a collective), and the program stops with a message instead of hanging.
//
// Asynchronous copies (cp.async) are deferred: a copy is carried out when its thread waits for it.
// Until then, its destination holds NaN, so a wait or a barrier that is missing shows in the
// results. A thread that ends with copies under way stops the program.
//
// Limits: a fiber's stack is 64 KiB (-Wframe-larger-than=32768 warns). ELF systems on x86-64 and
// AArch64.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <utility>
#include <vector>

#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "kernel_abi.h"

// From here to the end of the translation unit nothing is exported unless marked: two objects in
// one process must not use the same __shared__ variables or tables by accident, and hidden symbols
// are never STB_GNU_UNIQUE.
#pragma GCC visibility push(hidden)

// ---- the language -------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  uint32_t x = 1, y = 1, z = 1;
};
struct uint3 {
  uint32_t x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---- functions that need no other thread --------------------------------------------------------

template <class T> static inline T __ldg(const T *p) { return *p; }
static inline float __int_as_float(int v) { float r; std::memcpy(&r, &v, sizeof r); return r; }
static inline float __uint_as_float(unsigned v) { float r; std::memcpy(&r, &v, sizeof r); return r; }
static inline double __longlong_as_double(long long v) { double r; std::memcpy(&r, &v, sizeof r); return r; }
static inline int __float_as_int(float v) { int r; std::memcpy(&r, &v, sizeof r); return r; }
static inline unsigned __float_as_uint(float v) { unsigned r; std::memcpy(&r, &v, sizeof r); return r; }
static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }

// ---- fibers -------------------------------------------------------------------------------------

// Saves the callee-saved registers on the current stack, stores its top in *from, and continues on
// the stack `to`.
extern "C" void hiosc_fiber_switch(void **from, void *to);

#if !defined(__ELF__)
#error "cpu_cuda.h needs an ELF system (Linux, BSD)"
#elif defined(__x86_64__)
asm(R"(
  .text
  .weak hiosc_fiber_switch
  .hidden hiosc_fiber_switch
  .type hiosc_fiber_switch, @function
hiosc_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size hiosc_fiber_switch, . - hiosc_fiber_switch
)");
#elif defined(__aarch64__)
asm(R"(
  .text
  .weak hiosc_fiber_switch
  .hidden hiosc_fiber_switch
  .type hiosc_fiber_switch, %function
hiosc_fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size hiosc_fiber_switch, . - hiosc_fiber_switch
)");
#else
#error "cpu_cuda.h knows how to switch fibers on x86-64 and AArch64 only"
#endif

namespace cpu_cuda {

constexpr uint32_t kMaxThreads = 1024; // per block, as on a GPU
constexpr uint32_t kWarp = 32;
constexpr size_t kStack = 64 * 1024;
constexpr size_t kSlot = 16; // bytes that a lane can pass to a collective

struct Warp {
  uint32_t alive, runnable, waiting;
  uint32_t mask[kWarp];                            // of the collective the lane waits in
  uint32_t source[kWarp];                          // the lane whose input it reads
  alignas(16) unsigned char given[kWarp][kSlot];   // its input
  alignas(16) unsigned char received[kWarp][kSlot]; // its result
};

// The asynchronous copies that a thread has under way, and their groups.
class Copies {
  struct Copy {
    void *to;
    const void *from;
    uint32_t bytes;
    bool inside;
  };
  std::vector<Copy> copies_;
  std::vector<size_t> ends_;       // of each group that has been committed: its end in `copies_`
  size_t done_ = 0, groups_done_ = 0; // copies and groups that have been waited for

public:
  bool any() const { return done_ < copies_.size(); }

  void add(void *to, const void *from, uint32_t bytes, bool inside) {
    std::memset(to, 0xFF, bytes);
    copies_.push_back({to, from, bytes, inside});
  }

  void commit() { ends_.push_back(copies_.size()); }

  // Carries out the oldest groups, so that `pending` are left.
  void wait(size_t pending) {
    while (ends_.size() - groups_done_ > pending) {
      for (const size_t end = ends_[groups_done_++]; done_ < end; ++done_) {
        const Copy &copy = copies_[done_];
        if (copy.inside) std::memcpy(copy.to, copy.from, copy.bytes);
        else std::memset(copy.to, 0, copy.bytes);
      }
    }
    if (groups_done_ * 2 < ends_.size() + 32) return;
    copies_.erase(copies_.begin(), copies_.begin() + ptrdiff_t(done_));
    ends_.erase(ends_.begin(), ends_.begin() + ptrdiff_t(groups_done_));
    for (size_t &end : ends_) end -= done_;
    done_ = groups_done_ = 0;
  }

  void clear() {
    copies_.clear();
    ends_.clear();
    done_ = groups_done_ = 0;
  }
};

// One block in flight: the fibers of one operating-system thread.
struct Block {
  Copies copies[kMaxThreads];   // those that a fiber has under way
  void *stack_top[kMaxThreads]; // where a suspended fiber continues
  uint3 index[kMaxThreads];     // its threadIdx
  Warp warps[kMaxThreads / kWarp];
  uint32_t threads, warp_count, current;
  void *caller; // the stack of run_blocks
  void (*body)(void *const *);
  void *const *params;
  char *stacks = nullptr;
  size_t stacks_bytes = 0;
  ~Block() { release(); }
  void release() {
    if (!stacks) return;
    forget_frames();
    munmap(stacks, stacks_bytes);
  }
  // A fiber never returns from its first function. Without this, the address sanitizer would apply
  // the frame's poisoning to whatever is mapped there next.
  void forget_frames() {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stacks, stacks_bytes);
#endif
  }
};

inline thread_local Block *block = nullptr; // set while a kernel with fibers runs
inline thread_local void *dynamic_shared = nullptr;

[[noreturn]] inline void die(const char *what) {
  std::fprintf(stderr, "hiosc virtual GPU: %s (block %u,%u,%u thread %u,%u,%u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
               threadIdx.y, threadIdx.z);
  std::abort();
}

// The next runnable fiber after the current one, cyclically, so that threads advance in order.
// kMaxThreads if there is none.
inline uint32_t next_runnable(const Block &b) {
  uint32_t w = b.current / kWarp, lane = b.current % kWarp;
  const uint32_t after = b.warps[w].runnable & ~((2u << lane) - 1); // 2u << 31 is 0: no lane is after the last
  if (after) return w * kWarp + uint32_t(__builtin_ctz(after));
  for (uint32_t i = 0; i < b.warp_count; ++i) {
    if (++w == b.warp_count) w = 0;
    if (b.warps[w].runnable) return w * kWarp + uint32_t(__builtin_ctz(b.warps[w].runnable));
  }
  return kMaxThreads;
}

// Opens the block barrier if all live fibers wait at it; returns whether it did.
inline bool open_barrier(Block &b) {
  for (uint32_t w = 0; w < b.warp_count; ++w)
    if (b.warps[w].waiting) return false;
  for (uint32_t w = 0; w < b.warp_count; ++w) b.warps[w].runnable = b.warps[w].alive;
  return true;
}

inline void switch_to(Block &b, uint32_t to) {
  void **from = &b.stack_top[b.current];
  b.current = to;
  threadIdx = b.index[to];
  hiosc_fiber_switch(from, b.stack_top[to]);
}

inline void barrier() {
  Block *b = block;
  if (!b) die("__syncthreads in a kernel declared HIOSC_KERNEL_NO_SYNC");
  b->warps[b->current / kWarp].runnable &= ~(1u << b->current % kWarp);
  const uint32_t next = next_runnable(*b);
  if (next != kMaxThreads) switch_to(*b, next);
  else if (!open_barrier(*b)) die("deadlock: threads wait at __syncthreads for others that wait in a warp collective");
}

// Completes the collective of `mask` in `w` if all its live lanes have arrived; returns whether it
// did.
inline bool complete(Warp &w, uint32_t mask) {
  const uint32_t members = mask & w.alive;
  if ((w.waiting & members) != members) return false;
  for (uint32_t rest = members; rest; rest &= rest - 1) {
    const uint32_t lane = uint32_t(__builtin_ctz(rest)), from = w.source[lane];
    std::memcpy(w.received[lane], w.given[members >> from & 1 ? from : lane], kSlot);
  }
  w.waiting &= ~members;
  w.runnable |= members;
  return true;
}

// Passes `value` to the lanes of `mask` and returns the value of lane `from` (its own, if `from`
// does not take part).
template <class T> inline T exchange(uint32_t mask, T value, uint32_t from) {
  static_assert(sizeof(T) <= kSlot, "too large for a warp collective");
  Block *b = block;
  if (!b) die("a warp collective in a kernel declared HIOSC_KERNEL_NO_SYNC");
  Warp &w = b->warps[b->current / kWarp];
  const uint32_t lane = b->current % kWarp;
  if (!(mask >> lane & 1)) die("a thread calls a warp collective whose mask does not name it");
  std::memcpy(w.given[lane], &value, sizeof(T));
  w.source[lane] = from;
  w.mask[lane] = mask;
  w.waiting |= 1u << lane;
  if (!complete(w, mask)) {
    w.runnable &= ~(1u << lane);
    const uint32_t next = next_runnable(*b);
    if (next == kMaxThreads) die("deadlock: a warp collective waits for lanes that never come");
    switch_to(*b, next);
  }
  std::memcpy(&value, w.received[lane], sizeof(T));
  return value;
}

// The first function of every fiber.
[[noreturn]] inline void fiber_main() {
  Block &b = *block;
  b.body(b.params);
  Copies &copies = b.copies[b.current];
  if (copies.any()) die("a thread ends before it has waited for its asynchronous copies");
  copies.clear();
  Warp &w = b.warps[b.current / kWarp];
  const uint32_t bit = 1u << b.current % kWarp;
  w.alive &= ~bit;
  w.runnable &= ~bit;
  for (uint32_t rest = w.waiting; rest; rest &= rest - 1) { // a collective may have waited for this lane alone
    const uint32_t lane = uint32_t(__builtin_ctz(rest));
    if (w.waiting >> lane & 1) complete(w, w.mask[lane]);
  }
  uint32_t next = next_runnable(b);
  if (next == kMaxThreads) {
    uint32_t alive = 0;
    for (uint32_t i = 0; i < b.warp_count; ++i) alive |= b.warps[i].alive;
    if (!alive) {
      void *never;
      hiosc_fiber_switch(&never, b.caller);
    }
    if (!open_barrier(b)) die("deadlock: a warp collective waits for lanes that never come");
    next = next_runnable(b);
  }
  switch_to(b, next);
  __builtin_unreachable();
}

// Maps stacks for `threads` fibers. They stay mapped until the operating-system thread ends.
inline void reserve_stacks(Block &b, uint32_t threads) {
  const size_t bytes = size_t(threads) * kStack;
  if (bytes <= b.stacks_bytes) return b.forget_frames();
  b.release();
  void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) die("no memory for the stacks of a block");
  b.stacks = static_cast<char *>(p);
  b.stacks_bytes = bytes;
}

// Runs one block whose blockIdx is set.
inline void run_block(Block &b) {
  for (uint32_t i = 0; i < b.threads; ++i) {
    // Tops are staggered: stacks that all start at the same offset in a page would compete for the
    // same cache sets.
    void **top = reinterpret_cast<void **>(b.stacks + (i + 1) * kStack - i % kWarp * 448);
#if defined(__x86_64__)
    *--top = nullptr; // the return address fiber_main never uses; keeps its stack aligned as after a call
    *--top = reinterpret_cast<void *>(&fiber_main);
    top -= 6;
#else
    top -= 20;
    top[11] = reinterpret_cast<void *>(&fiber_main); // x30
#endif
    b.stack_top[i] = top;
  }
  for (uint32_t w = 0; w < b.warp_count; ++w) {
    const uint32_t lanes = std::min(kWarp, b.threads - w * kWarp);
    b.warps[w].alive = b.warps[w].runnable = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    b.warps[w].waiting = 0;
  }
  b.current = 0;
  threadIdx = b.index[0];
  hiosc_fiber_switch(&b.caller, b.stack_top[0]);
}

inline uint3 unflatten(uint64_t i, hiosc_dim3 extent) {
  return {uint32_t(i % extent.x), uint32_t(i / extent.x % extent.y), uint32_t(i / extent.x / extent.y)};
}

// Sets the variables that all blocks of a launch share. They are not restored: the next launch on
// this thread sets them again.
struct Launch {
  std::vector<unsigned char> shared;
  Launch(hiosc_dim3 grid, hiosc_dim3 threads, uint32_t dynamic_shared_bytes) : shared(dynamic_shared_bytes + 128) {
    gridDim = {grid.x, grid.y, grid.z};
    blockDim = {threads.x, threads.y, threads.z};
    if (uint64_t(threads.x) * threads.y * threads.z > kMaxThreads) die("a block of more than 1024 threads");
    const auto address = reinterpret_cast<uintptr_t>(shared.data());
    dynamic_shared = shared.data() + (128 - address % 128);
  }
};

inline void run_with_fibers(hiosc_dim3 grid, hiosc_dim3 threads, uint32_t shared, void *const *params, uint64_t first, uint64_t end,
                            void (*body)(void *const *)) {
  static thread_local Block memory;
  Launch launch(grid, threads, shared);
  Block &b = memory;
  b.threads = threads.x * threads.y * threads.z;
  b.warp_count = (b.threads + kWarp - 1) / kWarp;
  b.body = body;
  b.params = params;
  reserve_stacks(b, b.threads);
  for (uint32_t i = 0; i < b.threads; ++i) b.index[i] = unflatten(i, threads);
  block = &b;
  for (uint64_t i = first; i < end; ++i) {
    blockIdx = unflatten(i, grid);
    run_block(b);
  }
  block = nullptr;
}

// A kernel's table entry, deduced from its signature.
template <auto kernel> struct Thunk;

template <class... P, void (*kernel)(P...)> struct Thunk<kernel> {
  static constexpr uint32_t sizes[sizeof...(P) + 1] = {uint32_t(sizeof(P))..., 0};

  template <size_t... I> static __forceinline__ void call(void *const *params, std::index_sequence<I...>) {
    (void)params;
    kernel(*static_cast<P *>(params[I])...);
  }
  static void body(void *const *params) { call(params, std::index_sequence_for<P...>()); }

  static void run(hiosc_dim3 grid, hiosc_dim3 threads, uint32_t shared, void *const *params, uint64_t first, uint64_t end) {
    run_with_fibers(grid, threads, shared, params, first, end, &body);
  }

  static void run_as_loop(hiosc_dim3 grid, hiosc_dim3 threads, uint32_t shared, void *const *params, uint64_t first, uint64_t end) {
    Launch launch(grid, threads, shared);
    for (uint64_t i = first; i < end; ++i) {
      blockIdx = unflatten(i, grid);
      for (uint32_t z = 0; z < threads.z; ++z)
        for (uint32_t y = 0; y < threads.y; ++y)
          for (uint32_t x = 0; x < threads.x; ++x) {
            threadIdx = {x, y, z};
            call(params, std::index_sequence_for<P...>());
          }
    }
  }
};

// The object's list of kernels: every HIOSC_KERNEL adds itself when the object is loaded.
struct Registration {
  hiosc_kernel_entry entry;
  const Registration *next;
  static inline const Registration *head = nullptr;
  template <size_t N>
  Registration(const char *name, const uint32_t (&sizes)[N], hiosc_run_blocks run) : entry{name, N - 1, sizes, run}, next(head) {
    head = this;
  }
};

inline const std::vector<hiosc_kernel_entry> &table() {
  static const std::vector<hiosc_kernel_entry> entries = [] {
    std::vector<hiosc_kernel_entry> v;
    for (const Registration *r = Registration::head; r; r = r->next) v.push_back(r->entry);
    std::sort(v.begin(), v.end(), [](const auto &a, const auto &b) { return std::strcmp(a.name, b.name) < 0; });
    return v;
  }();
  return entries;
}

} // namespace cpu_cuda

// Weak, so that an object may be linked from several translation units.
extern "C" __attribute__((weak, used, visibility("default"))) const hiosc_kernel_entry *hiosc_vgpu_kernels(size_t *count) {
  const auto &entries = cpu_cuda::table();
  *count = entries.size();
  return entries.data();
}

#define HIOSC_CPU_KERNEL(name, params, how)                                                                                    \
  static void name params;                                                                                                           \
  static const cpu_cuda::Registration hiosc_register_##name(#name, cpu_cuda::Thunk<&name>::sizes, &cpu_cuda::Thunk<&name>::how);      \
  static inline void name params

// ---- barriers and warp collectives --------------------------------------------------------------

static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline unsigned atomicAdd(unsigned *p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }

namespace cpu_cuda {
inline Copies &copies_under_way() {
  if (!block) die("an asynchronous copy in a kernel declared HIOSC_KERNEL_NO_SYNC");
  return block->copies[block->current];
}
inline void copy_async(void *to, const void *from, uint32_t bytes, bool inside) {
  const auto misaligned = [bytes](const void *p) { return reinterpret_cast<uintptr_t>(p) % bytes != 0; };
  if (misaligned(to) || (inside && misaligned(from))) die("an asynchronous copy from or to an address that is not aligned");
  copies_under_way().add(to, from, bytes, inside);
}
inline void commit_copies() { copies_under_way().commit(); }
inline void wait_copies(size_t pending) { copies_under_way().wait(pending); }
} // namespace cpu_cuda

static inline void __syncthreads() { cpu_cuda::barrier(); }
static inline void __syncwarp(unsigned mask = ~0u) { cpu_cuda::exchange(mask, 0, 0); }

namespace cpu_cuda {
inline uint32_t lane() { return block ? block->current % kWarp : 0; }
} // namespace cpu_cuda

template <class T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const int lane = int(cpu_cuda::lane());
  return cpu_cuda::exchange(mask, v, uint32_t((lane & -width) | (source & (width - 1))));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
  const int lane = int(cpu_cuda::lane()), from = lane ^ bits;
  return cpu_cuda::exchange(mask, v, uint32_t(from / width > lane / width ? lane : from));
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const int lane = int(cpu_cuda::lane()), from = lane + int(delta);
  return cpu_cuda::exchange(mask, v, uint32_t((lane & (width - 1)) + int(delta) < width ? from : lane));
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const int lane = int(cpu_cuda::lane()), from = lane - int(delta);
  return cpu_cuda::exchange(mask, v, uint32_t((lane & (width - 1)) >= int(delta) ? from : lane));
}
