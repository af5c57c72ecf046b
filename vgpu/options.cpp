// Implementation of options.h.

#include "options.h"
#include "machine.h"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

static std::map<std::string, std::string> &settings() {
  static auto *one = new std::map<std::string, std::string>;
  return *one;
}

const char *environment(const char *name) {
  auto found = settings().find(name);
  const char *value = found == settings().end() ? getenv(name) : found->second.c_str();
  return value && *value ? value : nullptr;
}

// For a program that loads this library explicitly: sets a variable before cuInit without changing
// the environment. HIOSC_VGPU_KERNELS may be set at any time; its folders are appended.
extern "C" __attribute__((visibility("default"))) void hiosc_vgpu_set(const char *name, const char *value) {
  Lock lock(machine().mutex);
  const char *before = strcmp(name, "HIOSC_VGPU_KERNELS") ? nullptr : environment(name);
  std::string all = before ? std::string(before) + ":" + value : value;
  settings()[name] = all;
}

// Decimal digits only: strtoull alone would accept signs, blanks and trailing garbage.
static bool number(const char *text, size_t length, uint64_t &value) {
  if (!length || length > 20 || strspn(text, "0123456789") < length) return false;
  errno = 0;
  value = strtoull(std::string(text, length).c_str(), nullptr, 10);
  return errno == 0;
}

static std::string mistake(const char *name, const char *value, const char *expected) {
  return std::string(name) + "='" + value + "' is not " + expected;
}

static bool peer_pairs(const char *text, std::vector<std::vector<bool>> &peer) {
  for (const char *at = text;;) {
    size_t length = strcspn(at, ",");
    const char *dash = static_cast<const char *>(memchr(at, '-', length));
    uint64_t from, to;
    if (!dash || !number(at, size_t(dash - at), from) || !number(dash + 1, size_t(at + length - dash - 1), to)) return false;
    if (from >= peer.size() || to >= peer.size() || from == to) return false;
    peer[from][to] = true;
    if (!at[length]) return true;
    at += length + 1;
  }
}

// Parses "8.6" or "8.6,8.9": one for each device.
static bool capabilities(const char *at, std::vector<Capability> &out) {
  out.clear();
  for (;;) {
    size_t length = strcspn(at, ","), dot = strcspn(at, ".");
    uint64_t major, minor;
    if (dot >= length || !number(at, dot, major) || !number(at + dot + 1, length - dot - 1, minor)) return false;
    if (major < 3 || major > 99 || minor > 9) return false;
    out.push_back({int(major), int(minor)});
    if (!at[length]) return true;
    at += length + 1;
  }
}

std::string Options::read() {
  uint64_t n = 0;
  if (const char *v = environment("HIOSC_VGPU_COUNT")) {
    if (!number(v, strlen(v), n) || n > 64) return mistake("HIOSC_VGPU_COUNT", v, "a number of devices, 0 to 64");
    count = int(n);
  }
  if (const char *v = environment("HIOSC_VGPU_MEMORY")) {
    if (!number(v, strlen(v), memory)) return mistake("HIOSC_VGPU_MEMORY", v, "a number of bytes");
  }
  capability.assign(1, Capability{8, 6});
  if (const char *v = environment("HIOSC_VGPU_ARCH")) {
    if (!capabilities(v, capability)) return mistake("HIOSC_VGPU_ARCH", v, "a compute capability such as 8.6, or several as 8.6,8.9");
  }
  capability.resize(size_t(count), capability.back()); // the last one applies to all further devices
  peer.assign(size_t(count), std::vector<bool>(size_t(count), false));
  const char *v = environment("HIOSC_VGPU_PEER");
  if (!v || !strcmp(v, "all")) {
    for (size_t a = 0; a < peer.size(); a++)
      for (size_t b = 0; b < peer.size(); b++) peer[a][b] = a != b;
  } else if (strcmp(v, "none") && !peer_pairs(v, peer)) {
    return mistake("HIOSC_VGPU_PEER", v, "'all', 'none' or ordered pairs of present devices such as 0-1,1-0");
  }
  if (const char *v = environment("HIOSC_VGPU_SEED")) {
    if (!number(v, strlen(v), seed)) return mistake("HIOSC_VGPU_SEED", v, "a number from 0 to 18446744073709551615");
  }
  threads = std::thread::hardware_concurrency();
  if (const char *v = environment("HIOSC_VGPU_THREADS")) {
    if (!number(v, strlen(v), n) || n < 1 || n > 1024) return mistake("HIOSC_VGPU_THREADS", v, "a number of threads, 1 to 1024");
    threads = unsigned(n);
  }
  if (threads < 1) threads = 1;
  if (const char *v = environment("HIOSC_VGPU_STRICT")) {
    if (strcmp(v, "0") && strcmp(v, "1")) return mistake("HIOSC_VGPU_STRICT", v, "0 or 1");
    strict = *v == '1';
  }
  if (const char *v = environment("HIOSC_VGPU_REFUSE")) {
    for (const char *at = v;; at++) {
      size_t length = strcspn(at, ",");
      std::string what(at, length);
      static const std::set<std::string> known{"capture", "capture-across", "capture-cold", "instantiate"};
      if (!known.count(what)) return mistake("HIOSC_VGPU_REFUSE", v, "a list of capture, capture-across, capture-cold, instantiate");
      refuse.insert(what);
      at += length;
      if (!*at) break;
    }
  }
  if (const char *v = environment("HIOSC_VGPU_TRACE")) trace = v;
  if (const char *v = environment("HIOSC_VGPU_PROGRESS")) progress = v;
  return {};
}
