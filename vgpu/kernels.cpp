// Implementation of kernels.h.

#include "kernels.h"
#include "options.h"

#include <algorithm>
#include <cstdio>
#include <dirent.h>
#include <dlfcn.h>
#include <numeric>
#include <thread>

void KernelLibrary::open_new_objects(const std::string &folders) {
  for (size_t start = 0; start <= folders.size();) {
    size_t end = std::min(folders.find(':', start), folders.size());
    std::string folder = folders.substr(start, end - start);
    start = end + 1;
    if (folder.empty()) continue;
    DIR *listing = opendir(folder.c_str());
    if (!listing) {
      std::fprintf(stderr, "hiosc-vgpu: warning: HIOSC_VGPU_KERNELS: cannot list folder %s\n", folder.c_str());
      continue;
    }
    std::set<std::string> objects; // sorted, so that the first of two equal names is always the same
    while (dirent *entry = readdir(listing)) {
      std::string file = entry->d_name;
      if (file.size() > 3 && !file.compare(file.size() - 3, 3, ".so")) objects.insert(folder + "/" + file);
    }
    closedir(listing);
    for (const std::string &object : objects) {
      if (!opened_.insert(object).second) continue;
      void *handle = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
      void *table = handle ? dlsym(handle, "hiosc_vgpu_kernels") : nullptr;
      if (!table) {
        std::fprintf(stderr, "hiosc-vgpu: warning: not an object of kernels: %s\n", dlerror());
        continue;
      }
      size_t count = 0;
      const hiosc_kernel_entry *entries = reinterpret_cast<decltype(&hiosc_vgpu_kernels)>(table)(&count);
      for (size_t i = 0; i < count; i++) kernels_.emplace(entries[i].name, &entries[i]);
    }
  }
}

// The text of a word for the shell.
static std::string quoted(const std::string &word) {
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

void KernelLibrary::compile(const char *compiler, const std::string &sources) {
  std::FILE *output = popen((quoted(compiler) + " virtual --compile-kernels " + quoted(sources)).c_str(), "r");
  if (!output) return;
  std::string folder;
  for (int c; (c = std::fgetc(output)) != EOF && c != '\n';) folder += char(c);
  if (!pclose(output)) open_new_objects(folder); // otherwise the compiler has said why
}

const hiosc_kernel_entry *KernelLibrary::find(const std::string &name, const std::string &sources) {
  auto found = kernels_.find(name);
  if (found != kernels_.end()) return found->second;
  const char *folders = environment("HIOSC_VGPU_KERNELS"), *compiler = environment("HIOSC_VGPU_COMPILER");
  if (folders) open_new_objects(folders);
  found = kernels_.find(name);
  if (found != kernels_.end()) return found->second;
  if (compiler && !sources.empty()) {
    compile(compiler, sources);
    found = kernels_.find(name);
    if (found != kernels_.end()) return found->second;
    std::fprintf(stderr, "hiosc-vgpu: error: no kernel '%s' after compiling its source\n", name.c_str());
    return nullptr;
  }
  if (!folders) {
    std::fprintf(stderr, "hiosc-vgpu: error: no kernel '%s': HIOSC_VGPU_KERNELS names no folder of compiled kernels\n", name.c_str());
    return nullptr;
  }
  std::fprintf(stderr, "hiosc-vgpu: error: no kernel '%s' in %s (HIOSC_VGPU_KERNELS; %zu kernels there)\n", name.c_str(), folders,
               kernels_.size());
  return nullptr;
}

void BlockPool::start() {
  started_ = true;
  for (unsigned i = 1; i < threads_; i++) std::thread([this] { worker(); }).detach();
}

// Called with the mutex held; returns with it held when no chunk is left.
void BlockPool::take_chunks() {
  while (next_ < chunks_.size()) {
    const uint64_t chunk = chunks_[next_++], count = chunks_.size();
    const uint64_t first = chunk * blocks_ / count, end = (chunk + 1) * blocks_ / count;
    const auto *work = work_;
    mutex_.unlock();
    (*work)(first, end);
    mutex_.lock();
  }
}

void BlockPool::worker() {
  mutex_.lock();
  for (uint64_t seen = 0;;) {
    while (seen == launch_) {
      std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
      wake_.wait(lock);
      lock.release();
    }
    seen = launch_;
    busy_++;
    take_chunks();
    if (--busy_ == 0) idle_.notify_all();
  }
}

void BlockPool::run(uint64_t blocks, const std::function<void(uint64_t, uint64_t)> &work) {
  if (blocks == 1) return work(0, 1);
  std::unique_lock<std::mutex> lock(mutex_);
  if (!started_ && threads_ > 1) start();
  work_ = &work;
  next_ = 0;
  blocks_ = blocks;
  chunks_.resize(std::min<uint64_t>(blocks, std::max(64u, threads_ * 8)));
  std::iota(chunks_.begin(), chunks_.end(), uint64_t(0));
  std::shuffle(chunks_.begin(), chunks_.end(), random_);
  launch_++;
  wake_.notify_all();
  lock.release();
  take_chunks();
  lock = std::unique_lock<std::mutex>(mutex_, std::adopt_lock);
  idle_.wait(lock, [this] { return busy_ == 0; });
}
