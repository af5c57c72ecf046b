// The part of the CUDA driver's binary interface that the virtual GPUs implement: result codes,
// handles and the few constants needed.
//
// Declared here so that no CUDA header is required. The values are those of the public interface
// (version 12). A result code that a client's binding does not list would be undefined behaviour
// there, so no others are ever returned.
#pragma once
#include <cstddef>
#include <cstdint>

// (code, name, what it means), for cuGetErrorName and cuGetErrorString.
#define HIOSC_CUDA_RESULTS(X)                                                                                                              \
  X(0, CUDA_SUCCESS, "no error")                                                                                                           \
  X(1, CUDA_ERROR_INVALID_VALUE, "invalid argument")                                                                                       \
  X(2, CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                                                          \
  X(3, CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                                                                 \
  X(100, CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                                                                       \
  X(101, CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                                                              \
  X(200, CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                                                                       \
  X(201, CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                                                             \
  X(209, CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")                                         \
  X(215, CUDA_ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture")                                                      \
  X(217, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices")                                     \
  X(301, CUDA_ERROR_FILE_NOT_FOUND, "file not found")                                                                                      \
  X(400, CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                                                             \
  X(401, CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state")                                               \
  X(500, CUDA_ERROR_NOT_FOUND, "named symbol not found")                                                                                   \
  X(600, CUDA_ERROR_NOT_READY, "device not ready")                                                                                         \
  X(700, CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                                                           \
  X(704, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled")                                                         \
  X(705, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled")                                                           \
  X(708, CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "the primary context is active")                                                               \
  X(712, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped")                         \
  X(713, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region")                               \
  X(800, CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                                                              \
  X(801, CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                                                              \
  X(900, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")                                        \
  X(901, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture")                                 \
  X(902, CUDA_ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences")                               \
  X(903, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began")                                      \
  X(904, CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work")                                                         \
  X(905, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream")                                   \
  X(906, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream")               \
  X(907, CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream")                             \
  X(908, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture sequence from another thread")               \
  X(999, CUDA_ERROR_UNKNOWN, "unknown error")

enum CUresult : int {
#define HIOSC_ENUM(code, name, text) name = code,
  HIOSC_CUDA_RESULTS(HIOSC_ENUM)
#undef HIOSC_ENUM
};

// Handles are never dereferenced: they are keys into the tables of the virtual machine (machine.h).
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUpool_st *CUmemoryPool;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr; // an address of this process: addressing is unified

struct CUuuid {
  char bytes[16];
};

struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  CUstream hStream;
  void *attrs;
  unsigned numAttrs;
};

constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
constexpr unsigned CU_EVENT_DISABLE_TIMING = 2;

#define CUAPI extern "C" __attribute__((visibility("default"))) CUresult
