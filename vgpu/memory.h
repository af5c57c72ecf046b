// Device memory and pinned host memory: ranges of this process's address space.
//
// Each allocation is a separate mapping that ends at an unreadable page. So a kernel that runs far
// past the end of the last buffer crashes there instead of corrupting another allocation. New
// memory is filled with 0xFF (NaN as a float), so that a read of uninitialised memory shows.
#pragma once
#include <cstdint>
#include <map>

struct Allocation {
  uint64_t base = 0, bytes = 0;
  int device = -1; // -1: host memory, pinned
  uint64_t context = 0;
  bool registered = false; // the program's own memory, pinned by cuMemHostRegister
  bool freed = false;      // cuMemFreeAsync was called: no new operation may use it
  void *mapping = nullptr;
  uint64_t mapped = 0;
};

constexpr uint64_t ALIGNMENT = 256;
inline uint64_t rounded(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

class Memory {
public:
  // Null if the host has too little memory.
  Allocation *allocate(uint64_t bytes, int device, uint64_t context);
  Allocation *register_host(void *base, uint64_t bytes, uint64_t context);
  // The allocation that contains `address`, if there is one.
  Allocation *find(uint64_t address);
  // The allocation that starts at `address`, if there is one.
  Allocation *starting_at(uint64_t address);
  bool overlaps(uint64_t base, uint64_t bytes) const;
  void release(uint64_t base);
  void release_context(uint64_t context);
  // Bytes in use: the allocations of the device, each rounded up to the alignment.
  uint64_t used(int device) const;

private:
  std::map<uint64_t, Allocation> allocations_; // by base
};
