// Implementation of memory.h.

#include "memory.h"

#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

Allocation *Memory::allocate(uint64_t bytes, int device, uint64_t context) {
  uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));
  uint64_t body = rounded(bytes, page);
  if (body < bytes || body + page < body) return nullptr;
  void *mapping = mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  mprotect(static_cast<char *>(mapping) + body, page, PROT_NONE);
  memset(mapping, 0xFF, body);
  Allocation allocation;
  allocation.base = uint64_t(mapping) + body - rounded(bytes, ALIGNMENT);
  allocation.bytes = bytes;
  allocation.device = device;
  allocation.context = context;
  allocation.mapping = mapping;
  allocation.mapped = body + page;
  return &(allocations_[allocation.base] = allocation);
}

Allocation *Memory::register_host(void *base, uint64_t bytes, uint64_t context) {
  Allocation allocation;
  allocation.base = uint64_t(base);
  allocation.bytes = bytes;
  allocation.context = context;
  allocation.registered = true;
  return &(allocations_[allocation.base] = allocation);
}

Allocation *Memory::find(uint64_t address) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation &candidate = std::prev(after)->second;
  return address - candidate.base < candidate.bytes ? &candidate : nullptr;
}

Allocation *Memory::starting_at(uint64_t address) {
  auto found = allocations_.find(address);
  return found == allocations_.end() ? nullptr : &found->second;
}

bool Memory::overlaps(uint64_t base, uint64_t bytes) const {
  auto after = allocations_.lower_bound(base);
  if (after != allocations_.end() && after->second.base - base < bytes) return true;
  if (after == allocations_.begin()) return false;
  const Allocation &before = std::prev(after)->second;
  return base - before.base < before.bytes;
}

void Memory::release(uint64_t base) {
  auto found = allocations_.find(base);
  if (found == allocations_.end()) return;
  if (found->second.mapping) munmap(found->second.mapping, found->second.mapped);
  allocations_.erase(found);
}

void Memory::release_context(uint64_t context) {
  for (auto it = allocations_.begin(); it != allocations_.end();) {
    auto next = std::next(it);
    if (it->second.context == context && !it->second.registered && it->second.device >= 0) release(it->first);
    it = next;
  }
}

uint64_t Memory::used(int device) const {
  uint64_t sum = 0;
  for (auto &[base, allocation] : allocations_)
    if (allocation.device == device) sum += rounded(allocation.bytes, ALIGNMENT);
  return sum;
}
