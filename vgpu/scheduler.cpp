// Implementation of scheduler.h.

#include "scheduler.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>

thread_local bool inside_operation = false;

double monotonic_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

static uint64_t splitmix64(uint64_t &state) {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static std::FILE *open(const std::string &file, const char *mode, const char *variable) {
  if (file.empty()) return nullptr;
  std::FILE *opened = std::fopen(file.c_str(), mode);
  if (!opened) std::fprintf(stderr, "hiosc-vgpu: warning: %s: cannot write to %s\n", variable, file.c_str());
  return opened;
}

void Scheduler::configure(uint64_t seed, const std::string &trace_file, const std::string &progress_file) {
  state_ = seed;
  trace_ = open(trace_file, "a", "HIOSC_VGPU_TRACE");
  progress_ = open(progress_file, "w", "HIOSC_VGPU_PROGRESS");
}

// Writes the numbers of operations, ten times a second at most.
void Scheduler::report() {
  double now = monotonic_seconds();
  if (now < reported_ + 0.1) return;
  reported_ = now;
  std::rewind(progress_);
  std::fprintf(progress_, "%20" PRIu64 " %20" PRIu64 "\n", executed_, requested_);
  std::fflush(progress_);
}

void Scheduler::add(const StreamPtr &stream) { streams_[stream->number] = stream; }

void Scheduler::retire(const StreamPtr &stream) {
  if (stream->operations.empty()) streams_.erase(stream->number);
  else retired_.push_back(stream->number);
}

CompletionPtr Scheduler::enqueue(Stream &stream, std::string what, std::function<void()> run, std::vector<CompletionPtr> after) {
  requested_++;
  auto completion = std::make_shared<Completion>();
  stream.last = completion;
  stream.operations.push_back({std::move(what), std::move(run), std::move(after), completion});
  return completion;
}

uint64_t Scheduler::draw(uint64_t below) { return splitmix64(state_) % below; }

static bool allowed(const Operation &operation) {
  return std::all_of(operation.after.begin(), operation.after.end(), [](const CompletionPtr &c) { return c->done; });
}

void Scheduler::complete(Stream &stream) {
  Operation &operation = stream.operations.front();
  operation.completion->done = true;
  operation.completion->seconds = monotonic_seconds();
  if (trace_) {
    std::fprintf(trace_, "%" PRIu64 " gpu%d s%" PRIu64 " %s\n", executed_, stream.device, stream.number, operation.what.c_str());
    std::fflush(trace_);
  }
  executed_++;
  if (progress_) report();
  stream.operations.pop_front();
}

// Completes all waits and records that can complete; each may allow others to complete.
void Scheduler::complete_synchronisation() {
  for (bool again = true; again;) {
    again = false;
    for (auto &[number, stream] : streams_)
      while (!stream->operations.empty() && !stream->operations.front().run && allowed(stream->operations.front())) {
        complete(*stream);
        again = true;
      }
  }
  for (size_t i = 0; i < retired_.size();) {
    auto found = streams_.find(retired_[i]);
    if (found != streams_.end() && !found->second->operations.empty()) {
      i++;
      continue;
    }
    if (found != streams_.end()) streams_.erase(found);
    retired_.erase(retired_.begin() + std::ptrdiff_t(i));
  }
}

Stream *Scheduler::pick() {
  std::vector<Stream *> ready;
  for (auto &[number, stream] : streams_)
    if (!stream->operations.empty() && allowed(stream->operations.front())) ready.push_back(stream.get());
  if (ready.empty()) return nullptr;
  if (!period_left_) {
    period_left_ = uint64_t(1) << draw(9);
    ranking_ = splitmix64(state_);
  }
  period_left_--;
  auto rank = [this](const Stream *stream) {
    uint64_t mixed = ranking_ ^ (stream->number * 0xd1342543de82ef95);
    return splitmix64(mixed);
  };
  return *std::max_element(ready.begin(), ready.end(), [&](const Stream *a, const Stream *b) { return rank(a) < rank(b); });
}

bool Scheduler::step(Lock &lock) {
  if (running_) { // another thread is running one
    finished_.wait(lock, [this] { return !running_; });
    return true;
  }
  Stream *picked = pick();
  if (!picked) return false;
  StreamPtr stream = streams_[picked->number];
  Operation &operation = stream->operations.front(); // its address is stable while others append
  running_ = true;
  lock.unlock();
  inside_operation = true;
  operation.run();
  inside_operation = false;
  lock.lock();
  running_ = false;
  complete(*stream);
  finished_.notify_all();
  return true;
}

bool Scheduler::run_until(Lock &lock, const std::function<bool()> &condition) {
  for (;;) {
    if (!running_) complete_synchronisation();
    if (condition()) return true;
    if (!step(lock)) return false;
  }
}

void Scheduler::poll(Lock &lock) {
  if (!running_) complete_synchronisation();
  step(lock);
  if (!running_) complete_synchronisation();
}
