// A stand-in for NVRTC, the run-time compiler, for use with the virtual driver.
//
// It compiles nothing itself: the kernels of virtual GPUs are compiled for the CPU and found by
// name. If HIOSC_VGPU_COMPILER is set, it leaves the sources in a temporary folder that its result
// names, and the virtual driver has them compiled when one is first asked for. It checks for
// mistakes of a crate that ships its kernels as sources (no source, no kernel in it, an invalid
// architecture), and returns a short text that the virtual driver accepts as a module.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>

enum nvrtcResult : int {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_OUT_OF_MEMORY = 1,
  NVRTC_ERROR_PROGRAM_CREATION_FAILURE = 2,
  NVRTC_ERROR_INVALID_INPUT = 3,
  NVRTC_ERROR_INVALID_PROGRAM = 4,
  NVRTC_ERROR_INVALID_OPTION = 5,
  NVRTC_ERROR_COMPILATION = 6,
  NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION = 9,
  NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID = 10,
};

struct Program {
  std::string source, name, log, image, virtual_image;
  std::map<std::string, std::string> headers; // text by name
  std::map<std::string, std::string> names; // expression: lowered name
  bool compiled = false;
};
typedef Program *nvrtcProgram;

#define NVRTC extern "C" __attribute__((visibility("default"))) nvrtcResult

static const int ARCHITECTURES[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 120};
constexpr int ARCHITECTURE_COUNT = int(sizeof ARCHITECTURES / sizeof *ARCHITECTURES);

extern "C" __attribute__((visibility("default"))) const char *nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
  case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
  case NVRTC_ERROR_OUT_OF_MEMORY: return "NVRTC_ERROR_OUT_OF_MEMORY";
  case NVRTC_ERROR_PROGRAM_CREATION_FAILURE: return "NVRTC_ERROR_PROGRAM_CREATION_FAILURE";
  case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
  case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
  case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
  case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
  case NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION: return "NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION";
  case NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
  }
  return "NVRTC_ERROR unknown";
}

NVRTC nvrtcVersion(int *major, int *minor) {
  if (!major || !minor) return NVRTC_ERROR_INVALID_INPUT;
  *major = 12, *minor = 8;
  return NVRTC_SUCCESS;
}

NVRTC nvrtcGetNumSupportedArchs(int *count) {
  if (!count) return NVRTC_ERROR_INVALID_INPUT;
  *count = ARCHITECTURE_COUNT;
  return NVRTC_SUCCESS;
}

NVRTC nvrtcGetSupportedArchs(int *architectures) {
  if (!architectures) return NVRTC_ERROR_INVALID_INPUT;
  memcpy(architectures, ARCHITECTURES, sizeof ARCHITECTURES);
  return NVRTC_SUCCESS;
}

NVRTC nvrtcCreateProgram(nvrtcProgram *out, const char *source, const char *name, int headers, const char *const *texts, const char *const *names) {
  if (!out || !source || headers < 0 || (headers && (!texts || !names))) return NVRTC_ERROR_INVALID_INPUT;
  *out = new Program;
  (*out)->source = source;
  (*out)->name = name ? name : "";
  for (int i = 0; i < headers; i++) (*out)->headers[names[i]] = texts[i];
  return NVRTC_SUCCESS;
}

NVRTC nvrtcDestroyProgram(nvrtcProgram *program) {
  if (!program || !*program) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

NVRTC nvrtcAddNameExpression(nvrtcProgram program, const char *expression) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  if (!expression || program->compiled) return NVRTC_ERROR_INVALID_INPUT;
  program->names[expression] = expression; // kernels are extern "C": the lowered name is the name
  return NVRTC_SUCCESS;
}

NVRTC nvrtcGetLoweredName(nvrtcProgram program, const char *expression, const char **lowered) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  if (!expression || !lowered) return NVRTC_ERROR_INVALID_INPUT;
  if (!program->compiled) return NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION;
  auto found = program->names.find(expression);
  if (found == program->names.end()) return NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID;
  *lowered = found->second.c_str();
  return NVRTC_SUCCESS;
}

// The value of --gpu-architecture=VALUE, --gpu-architecture VALUE, -arch=VALUE or -arch VALUE;
// empty if the option is missing.
static std::string architecture_option(int count, const char *const *options) {
  std::string value;
  for (int i = 0; i < count; i++)
    for (const char *name : {"--gpu-architecture", "-arch"}) {
      size_t length = strlen(name);
      if (strncmp(options[i], name, length)) continue;
      if (options[i][length] == '=') value = options[i] + length + 1;
      else if (!options[i][length] && i + 1 < count) value = options[i + 1];
    }
  return value;
}

// The number in "sm_86" or "compute_90a", if NVRTC 12.8 compiles for it; else 0.
static int architecture_number(const std::string &value, bool &is_virtual) {
  is_virtual = !value.compare(0, 8, "compute_");
  size_t digits = is_virtual ? 8 : 3;
  if (!is_virtual && value.compare(0, 3, "sm_")) return 0;
  char *end = nullptr;
  long number = strtol(value.c_str() + digits, &end, 10);
  if (*end && strcmp(end, "a")) return 0;
  for (int known : ARCHITECTURES)
    if (known == number) return known;
  return 0;
}

// Writes the program into a folder of all programs with these headers, and returns the folder;
// empty if that fails. The folder is removed when the process ends.
static std::string keep(const Program &program) {
  static std::mutex mutex;
  static std::map<std::map<std::string, std::string>, std::string> folders;
  static struct Scratch {
    std::string path;
    ~Scratch() {
      std::error_code ignored;
      if (!path.empty()) std::filesystem::remove_all(path, ignored);
    }
  } scratch;
  std::lock_guard<std::mutex> lock(mutex);
  std::error_code failed;
  if (scratch.path.empty()) {
    std::string name = (std::filesystem::temp_directory_path(failed) / "hiosc-kernels-XXXXXX").string();
    if (failed || !mkdtemp(name.data())) return "";
    scratch.path = name;
  }
  auto write = [](const std::string &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; };
  auto [known, fresh] = folders.emplace(program.headers, scratch.path + "/" + std::to_string(folders.size()));
  if (fresh) {
    std::filesystem::create_directories(known->second + "/kernels", failed);
    for (const auto &[name, text] : program.headers) write(known->second + "/kernels/" + name, text);
  }
  write(known->second + "/kernels/" + program.name + ".cu", program.source);
  return failed ? "" : known->second;
}

NVRTC nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  if (count < 0 || (count && !options)) return NVRTC_ERROR_INVALID_INPUT;
  std::string value = architecture_option(count, options);
  bool is_virtual = true;
  int number = value.empty() ? 52 : architecture_number(value, is_virtual);
  if (!number) {
    program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch): " + value + "\n";
    return NVRTC_ERROR_INVALID_OPTION;
  }
  if (program->source.find_first_not_of(" \t\r\n") == std::string::npos) {
    program->log = "error: the source is empty\n";
    return NVRTC_ERROR_COMPILATION;
  }
  if (program->source.find("HIOSC_KERNEL") == std::string::npos) {
    program->log = "error: no HIOSC_KERNEL in the source (hiosc's stand-in for NVRTC compiles nothing: it only knows hiosc's kernels)\n";
    return NVRTC_ERROR_COMPILATION;
  }
  std::string folder = getenv("HIOSC_VGPU_COMPILER") ? keep(*program) : "";
  std::string image = "// hiosc virtual image\n// sources " + folder + "\n.version 8.0\n.target sm_" + std::to_string(number) + "\n.address_size 64\n";
  program->virtual_image = image;
  program->image = is_virtual ? "" : image; // no cubin for a virtual architecture, as NVRTC has it
  program->log.clear();
  program->compiled = true;
  return NVRTC_SUCCESS;
}

static nvrtcResult size_of(nvrtcProgram program, const std::string Program::*text, size_t *size) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  if (!size) return NVRTC_ERROR_INVALID_INPUT;
  const std::string &value = program->*text;
  *size = text == &Program::image && value.empty() ? 0 : value.size() + 1;
  return NVRTC_SUCCESS;
}

static nvrtcResult text_of(nvrtcProgram program, const std::string Program::*text, char *out) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  if (!out) return NVRTC_ERROR_INVALID_INPUT;
  const std::string &value = program->*text;
  if (text != &Program::image || !value.empty()) memcpy(out, value.c_str(), value.size() + 1);
  return NVRTC_SUCCESS;
}

NVRTC nvrtcGetPTXSize(nvrtcProgram program, size_t *size) { return size_of(program, &Program::virtual_image, size); }
NVRTC nvrtcGetPTX(nvrtcProgram program, char *out) { return text_of(program, &Program::virtual_image, out); }
NVRTC nvrtcGetCUBINSize(nvrtcProgram program, size_t *size) { return size_of(program, &Program::image, size); }
NVRTC nvrtcGetCUBIN(nvrtcProgram program, char *out) { return text_of(program, &Program::image, out); }
NVRTC nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size) { return size_of(program, &Program::log, size); }
NVRTC nvrtcGetProgramLog(nvrtcProgram program, char *out) { return text_of(program, &Program::log, out); }
