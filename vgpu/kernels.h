// Kernels compiled for the CPU: found by name in shared objects, run by a pool of threads.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernel_abi.h"

// The kernels of every `*.so` in the folders of HIOSC_VGPU_KERNELS (separated by ':').
class KernelLibrary {
public:
  // The kernel called `name`; null, with a message on stderr, if no object has it. Opens objects
  // that are new in the folders if the kernel is not known yet. If that does not help, has
  // HIOSC_VGPU_COMPILER compile the folder `sources`, unless that is empty.
  const hiosc_kernel_entry *find(const std::string &name, const std::string &sources);

private:
  void open_new_objects(const std::string &folders);
  void compile(const char *compiler, const std::string &sources);
  std::map<std::string, const hiosc_kernel_entry *> kernels_;
  std::set<std::string> opened_;
};

// The threads that run the blocks of a launch. The calling thread is one of them.
class BlockPool {
public:
  BlockPool(unsigned threads, uint64_t seed) : threads_(threads), random_(seed) {}
  // Runs `work(first, end)` until every one of `blocks` has run, in chunks that idle threads take.
  // The chunks are in random order, since a GPU promises none.
  void run(uint64_t blocks, const std::function<void(uint64_t, uint64_t)> &work);

private:
  void start();
  void worker();
  void take_chunks();

  unsigned threads_;
  bool started_ = false;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  uint64_t launch_ = 0; // number of launches so far: a worker takes part in each once
  unsigned busy_ = 0;
  uint64_t next_ = 0, blocks_ = 0;
  std::vector<uint64_t> chunks_; // their numbers, in the order in which they begin
  std::mt19937_64 random_;
  const std::function<void(uint64_t, uint64_t)> *work_ = nullptr;
};
