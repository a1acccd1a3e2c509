// SPDX-License-Identifier: Apache-2.0
// ONNX files as far as small networks need them: a graph of nodes, constants, one picture in and one map out. The bytes
// are anybody's: every length is checked, and what is not understood is refused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace se {

// Not a network that can be read, or not one of those that our kernels run: a sentence says why.
struct Unfit : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A constant; integers of all kinds stand in `whole`, halves and floats in `real`.
struct OnnxTensor {
  std::string name;
  std::vector<int64_t> dims;
  std::vector<int64_t> whole;
  std::vector<float> real;
};

struct OnnxAttribute {
  int64_t whole = 0;
  float real = 0;
  std::string text;
  std::vector<int64_t> wholes;
};

struct OnnxNode {
  std::string op;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, OnnxAttribute> attributes;

  int64_t whole(const char* name, int64_t otherwise) const;
  std::string text(const char* name, const char* otherwise) const;
  std::vector<int64_t> wholes(const char* name, std::vector<int64_t> otherwise) const;
};

struct OnnxEnd {
  std::string name;
  int32_t type = 0;           // 1: float
  std::vector<int64_t> dims;  // 0: of any length
};

struct OnnxGraph {
  std::vector<OnnxNode> nodes;
  std::map<std::string, OnnxTensor> constants;
  std::vector<OnnxEnd> inputs, outputs;
  std::map<std::string, std::string> metadata;
};

// check: throws Unfit at a node that need not be read for; nodes come before constants, so a large file is not taken in for nothing.
// Throws Unfit.
OnnxGraph read_onnx(const void* bytes, size_t size, void (*check)(const OnnxNode& node));

}  // namespace se
