// The options of the virtual machine, from the environment.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <vector>

// The value of a variable: set by hiosc_vgpu_set, otherwise from the environment. Null if unset or
// empty.
const char *environment(const char *name);

struct Capability {
  int major, minor;
};

struct Options {
  int count = 2;                            // HIOSC_VGPU_COUNT: devices
  uint64_t memory = uint64_t(8) << 30;      // HIOSC_VGPU_MEMORY: bytes of each device
  std::vector<Capability> capability;       // HIOSC_VGPU_ARCH: of each device
  std::vector<std::vector<bool>> peer;      // HIOSC_VGPU_PEER: peer[a][b]: a can access the memory of b
  uint64_t seed = 0;                        // HIOSC_VGPU_SEED: seed of the order of execution
  unsigned threads = 0;                     // HIOSC_VGPU_THREADS: threads that run the blocks of a launch
  bool strict = false;                      // HIOSC_VGPU_STRICT: a wait for an event that was never recorded is an error
  std::set<std::string> refuse;             // HIOSC_VGPU_REFUSE: capture, capture-across, capture-cold, instantiate
  std::string trace;                        // HIOSC_VGPU_TRACE: file for a line per executed operation
  std::string progress;                     // HIOSC_VGPU_PROGRESS: file for the numbers of operations

  // Reads the environment. Returns the text of the first error, or an empty string.
  std::string read();
};
