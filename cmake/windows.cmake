# SPDX-License-Identifier: Apache-2.0
# The C library for 64-bit Windows, made on another system by GCC (Debian: g++-mingw-w64-x86-64):
# cmake -S . -B build -DCMAKE_TOOLCHAIN_FILE=cmake/windows.cmake -DSECONDEYE_PYTHON=OFF -DSECONDEYE_CUDA=OFF
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
