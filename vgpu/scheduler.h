// The order in which the operations of all streams run.
//
// A host call only appends an operation to its stream. Operations run when the host synchronises,
// one at a time. A seeded generator draws the next one from those that stream order and events
// allow, across all devices. A real GPU may run any of these orders. So a program that relies on an
// order that it did not request gives different results for some seeds.
//
// How the next operation is drawn: a uniform draw would rarely let one stream fall far behind
// another, which is what exposes a missing wait. Instead the streams get a random ranking. The
// highest-ranked stream that is ready runs, and the last starves. After a random period of 1, 2, 4,
// ... or 256 operations the ranking is drawn again. Short periods are as good as a uniform draw.
// (The idea is that of probabilistic concurrency testing: Burckhardt et al., ASPLOS 2010.) In
// random plans of 40 to 300 operations on 2 to 8 streams, with each necessary wait removed in turn,
// one seed exposes the missing wait in 48 % of the cases, and 20 seeds in over 99 %. With uniform
// draws, 20 seeds expose 89 %.
//
// Waits and event records take no time: they complete as soon as their stream reaches them and what
// they wait for is done. A wait refers to the event's latest record at the time of the call, so
// what it waits for was enqueued before it, and no deadlock is possible.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

using Lock = std::unique_lock<std::mutex>;

// Marks that an operation has completed.
struct Completion {
  bool done = false;
  double seconds = 0; // when it completed, on the host's monotonic clock
};
using CompletionPtr = std::shared_ptr<Completion>;

struct Operation {
  std::string what;                 // for the trace
  std::function<void()> run;        // empty: a wait or an event record
  std::vector<CompletionPtr> after; // what it waits for, besides the previous operation of the stream
  CompletionPtr completion;
};

struct Stream {
  uint64_t handle = 0;
  uint64_t number = 0; // in order of creation over all devices
  uint64_t context = 0;
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  std::deque<Operation> operations;
  CompletionPtr last; // of the latest operation
  std::shared_ptr<struct Capture> capture; // the capture it takes part in (capture.h)
  std::vector<size_t> frontier;            // what the next captured node depends on
};
using StreamPtr = std::shared_ptr<Stream>;

class Scheduler {
public:
  void configure(uint64_t seed, const std::string &trace_file, const std::string &progress_file);

  // Schedules the stream's operations from now on, even after its handle is destroyed.
  void add(const StreamPtr &stream);
  // The stream's handle is destroyed: forget it once it is empty.
  void retire(const StreamPtr &stream);

  // Appends an operation; returns its completion.
  CompletionPtr enqueue(Stream &stream, std::string what, std::function<void()> run, std::vector<CompletionPtr> after = {});

  // Draws and runs operations until `condition` holds. Returns false if nothing is left to run and
  // it does not hold. Called with the machine's lock, which is released while an operation runs:
  // other threads may enqueue meanwhile, and only one operation runs at a time.
  bool run_until(Lock &lock, const std::function<bool()> &condition);
  // All streams with a handle or with operations left, by number.
  const std::map<uint64_t, StreamPtr> &streams() const { return streams_; }
  // Draws and runs at most one operation, so that a polling program makes progress.
  void poll(Lock &lock);

private:
  uint64_t draw(uint64_t below);
  bool step(Lock &lock);
  void complete_synchronisation();
  Stream *pick();
  void complete(Stream &stream);
  void report();

  std::map<uint64_t, StreamPtr> streams_;
  std::vector<uint64_t> retired_;
  uint64_t state_ = 0;
  uint64_t period_left_ = 0, ranking_ = 0;
  bool running_ = false;
  std::condition_variable finished_;
  std::FILE *trace_ = nullptr;
  std::FILE *progress_ = nullptr;
  double reported_ = 0; // when, on the host's monotonic clock
  uint64_t executed_ = 0, requested_ = 0;
};

// True on the thread that is running an operation, for calls a host function must not make.
extern thread_local bool inside_operation;
double monotonic_seconds();
