// SPDX-License-Identifier: Apache-2.0
#include "core/system.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <thread>

#if defined(_WIN32)
#include <windows.h>

#include <malloc.h>
#include <process.h>
#else
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#endif

namespace se {

std::filesystem::path path_of(const std::string& utf8) {
  try {
    return std::filesystem::u8path(utf8);
  } catch (const std::system_error&) {  // on Windows alone, whose paths are of other characters
    throw std::runtime_error("a path that is not UTF-8.");
  }
}

#if defined(_WIN32)

int32_t cpu_count() {
  DWORD_PTR ours = 0, all = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &all) && ours != 0) return __builtin_popcountll(ours);
  return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));  // in several groups of 64
}

int64_t process_id() { return _getpid(); }

void* aligned_memory(size_t bytes) { return _aligned_malloc(bytes, 64); }
void free_aligned(void* memory) { _aligned_free(memory); }

// Not thread_local: GCC's runtime takes the loader's lock to end such an object, while it holds one that a thread waits for
// that ends at the same time with the loader's.
void* of_thread(void* (*make)(), void (*end)(void*)) {
  static const DWORD key = FlsAlloc(reinterpret_cast<PFLS_CALLBACK_FUNCTION>(reinterpret_cast<void*>(end)));
  void* object = FlsGetValue(key);
  if (object == nullptr && key != FLS_OUT_OF_INDEXES && (object = make()) != nullptr && !FlsSetValue(key, object)) {
    end(object);
    object = nullptr;
  }
  return object;
}

void at_fork(void (*)(), void (*)(), void (*)()) {}

void stay_loaded() {
  HMODULE self = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                     reinterpret_cast<LPCWSTR>(reinterpret_cast<void*>(&stay_loaded)), &self);
}

void* open_library(const char* path) {
  return reinterpret_cast<void*>(LoadLibraryW(path_of(path).c_str()));
}

std::string library_error() {
  char text[256] = "";
  const DWORD code = GetLastError();
  DWORD length = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, code, 0, text, sizeof text, nullptr);
  while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r' || text[length - 1] == '.')) --length;
  return length > 0 ? std::string(text, length) : "error " + std::to_string(code);
}

void* library_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

#else

int32_t cpu_count() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
}

int64_t process_id() { return getpid(); }

void* aligned_memory(size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
void free_aligned(void* memory) { std::free(memory); }

void* of_thread(void* (*make)(), void (*end)(void*)) {
  struct Own {
    void* object = nullptr;
    void (*end)(void*) = nullptr;
    ~Own() {
      if (object != nullptr) end(object);
    }
  };
  thread_local Own own;
  if (own.object == nullptr) own.object = make(), own.end = end;
  return own.object;
}

void at_fork(void (*before)(), void (*parent)(), void (*child)()) { pthread_atfork(before, parent, child); }

void stay_loaded() {}

void* open_library(const char* path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }

std::string library_error() {
  const char* text = dlerror();
  return text == nullptr ? "no reason given" : text;
}

void* library_symbol(void* library, const char* name) { return dlsym(library, name); }

#endif

}  // namespace se
