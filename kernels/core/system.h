// SPDX-License-Identifier: Apache-2.0
// What every operating system has in a way of its own. Paths are UTF-8 everywhere.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace se {

int32_t cpu_count();  // cores that this process may use, at least 1
int64_t process_id();

// Memory that begins on a multiple of 64 bytes; null when there is none. free_aligned gives it back.
void* aligned_memory(size_t bytes);
void free_aligned(void* memory);

// This thread's one object, which `make` makes at first; `end` has it when the thread ends. Null when it cannot be made.
void* of_thread(void* (*make)(), void (*end)(void*));

// Has all three called round every fork, where there is such a thing.
void at_fork(void (*before)(), void (*parent)(), void (*child)());

// Keeps this library in memory for as long as the process lives, where linking it cannot say so.
void stay_loaded();

std::filesystem::path path_of(const std::string& utf8);  // throws std::runtime_error

// A shared library, which stays loaded; null when it cannot be, and then library_error tells why.
// Throws as path_of does.
void* open_library(const char* path);
std::string library_error();
void* library_symbol(void* library, const char* name);

}  // namespace se
