// SPDX-License-Identifier: Apache-2.0
// Protocol buffers' wire format and onnx.proto's field numbers (github.com/onnx/onnx, onnx/onnx.proto).
#include "net/onnx.h"

#include <cstring>

namespace se {
namespace {

class Message {
 public:
  Message(const uint8_t* at, size_t size) : at_(at), end_(at + size) {}

  // The next field, or false at the end.
  bool next() {
    if (at_ == end_) return false;
    const uint64_t key = varint();
    field = static_cast<uint32_t>(key >> 3);
    kind_ = static_cast<uint32_t>(key & 7);
    switch (kind_) {
      case 0: value = varint(); break;
      case 1: value = fixed(8); break;
      case 2: {
        const uint64_t n = varint();
        if (n > static_cast<uint64_t>(end_ - at_)) broken();
        bytes = at_;
        size = static_cast<size_t>(n);
        at_ += size;
        break;
      }
      case 5: value = fixed(4); break;
      default: broken();
    }
    return true;
  }

  Message message() const {
    if (kind_ != 2) broken();
    return Message(bytes, size);
  }
  std::string text() const {
    if (kind_ != 2) broken();
    return std::string(reinterpret_cast<const char*>(bytes), size);
  }
  // A repeated number, packed or one of many.
  void append(std::vector<int64_t>* to) const {
    if (kind_ != 2) return to->push_back(static_cast<int64_t>(value));
    for (Message m(bytes, size); m.at_ != m.end_;) to->push_back(static_cast<int64_t>(m.varint()));
  }
  void append(std::vector<float>* to) const {
    if (kind_ != 2) return to->push_back(real());
    if (size % 4 != 0) broken();
    const size_t before = to->size();
    to->resize(before + size / 4);
    if (size != 0) std::memcpy(to->data() + before, bytes, size);
  }
  float real() const {
    const uint32_t bits = static_cast<uint32_t>(value);
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
  }

  uint32_t field = 0;
  uint64_t value = 0;
  const uint8_t* bytes = nullptr;
  size_t size = 0;

 private:
  [[noreturn]] static void broken() { throw Unfit("not an ONNX file: its bytes end early or make no sense."); }

  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) broken();
      const uint8_t byte = *at_++;
      v |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return v;
    }
    broken();
  }
  uint64_t fixed(size_t n) {
    if (static_cast<size_t>(end_ - at_) < n) broken();
    uint64_t v = 0;
    std::memcpy(&v, at_, n);
    at_ += n;
    return v;
  }

  const uint8_t *at_, *end_;
  uint32_t kind_ = 0;
};

constexpr int32_t kFloat = 1, kInt32 = 6, kInt64 = 7, kHalf = 10;

float of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, low = half & 1023;
  float v;
  if (exponent == 0) {
    v = static_cast<float>(low) * 5.9604644775390625e-8f;
    return sign != 0 ? -v : v;
  }
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | low << 13;
  std::memcpy(&v, &bits, 4);
  return v;
}

// Numbers as they lie in memory.
template <typename T, typename To, typename Made>
void take_raw(const uint8_t* bytes, size_t size, std::vector<To>* to, const Made& made) {
  to->resize(size / sizeof(T));
  for (size_t i = 0; i < to->size(); ++i) {
    T v;
    std::memcpy(&v, bytes + i * sizeof(T), sizeof(T));
    (*to)[i] = made(v);
  }
}

OnnxTensor read_tensor(Message m) {
  OnnxTensor tensor;
  int32_t type = 0;
  const uint8_t* raw = nullptr;
  size_t raw_size = 0;
  while (m.next()) {
    switch (m.field) {
      case 1: m.append(&tensor.dims); break;
      case 2: type = static_cast<int32_t>(m.value); break;
      case 4: m.append(&tensor.real); break;
      case 5:
      case 7: m.append(&tensor.whole); break;
      case 8: tensor.name = m.text(); break;
      case 9:
        m.message();  // or it is no run of bytes
        raw = m.bytes;
        raw_size = m.size;
        break;
      case 14:
        if (m.value != 0) throw Unfit("its weights lie in another file.");
    }
  }
  if (type != kFloat && type != kHalf && type != kInt32 && type != kInt64)
    throw Unfit("a constant is neither of floats nor of integers.");
  if (raw != nullptr) {
    tensor.real.clear();
    tensor.whole.clear();
    if (type == kFloat) take_raw<float>(raw, raw_size, &tensor.real, [](float v) { return v; });
    if (type == kHalf) take_raw<uint16_t>(raw, raw_size, &tensor.real, of_half);
    if (type == kInt32) take_raw<int32_t>(raw, raw_size, &tensor.whole, [](int32_t v) { return int64_t{v}; });
    if (type == kInt64) take_raw<int64_t>(raw, raw_size, &tensor.whole, [](int64_t v) { return v; });
  } else if (type == kHalf) {  // halves without raw data stand as integers
    for (const int64_t v : tensor.whole) tensor.real.push_back(of_half(static_cast<uint16_t>(v)));
    tensor.whole.clear();
  }
  int64_t elements = 1;
  for (const int64_t n : tensor.dims) {
    if (n < 0 || n > (int64_t{1} << 31) || elements * (n + 1) > (int64_t{1} << 33)) throw Unfit("a constant's shape makes no sense.");
    elements *= n;
  }
  if (static_cast<int64_t>(tensor.real.size() + tensor.whole.size()) != elements)
    throw Unfit("a constant does not have as many numbers as its shape says.");
  return tensor;
}

OnnxNode read_node(Message m) {
  OnnxNode node;
  while (m.next()) {
    switch (m.field) {
      case 1: node.inputs.push_back(m.text()); break;
      case 2: node.outputs.push_back(m.text()); break;
      case 4: node.op = m.text(); break;
      case 5: {
        std::string name;
        OnnxAttribute attribute;
        for (Message a = m.message(); a.next();) {
          switch (a.field) {
            case 1: name = a.text(); break;
            case 2: attribute.real = a.real(); break;
            case 3: attribute.whole = static_cast<int64_t>(a.value); break;
            case 4: attribute.text = a.text(); break;
            case 8: a.append(&attribute.wholes); break;
          }
        }
        node.attributes[name] = attribute;
        break;
      }
      case 7:
        if (!m.text().empty() && m.text() != "ai.onnx") node.op = m.text() + "." + node.op;
    }
  }
  return node;
}

OnnxEnd read_end(Message m) {
  OnnxEnd end;
  while (m.next()) {
    if (m.field == 1) end.name = m.text();
    if (m.field != 2) continue;
    for (Message type = m.message(); type.next();) {
      if (type.field != 1) continue;
      for (Message tensor = type.message(); tensor.next();) {
        if (tensor.field == 1) end.type = static_cast<int32_t>(tensor.value);
        if (tensor.field != 2) continue;
        for (Message shape = tensor.message(); shape.next();) {
          if (shape.field != 1) continue;
          int64_t length = 0;
          for (Message dim = shape.message(); dim.next();)
            if (dim.field == 1) length = static_cast<int64_t>(dim.value);
          end.dims.push_back(length);
        }
      }
    }
  }
  return end;
}

}  // namespace

int64_t OnnxNode::whole(const char* name, int64_t otherwise) const {
  const auto at = attributes.find(name);
  return at == attributes.end() ? otherwise : at->second.whole;
}
std::string OnnxNode::text(const char* name, const char* otherwise) const {
  const auto at = attributes.find(name);
  return at == attributes.end() ? otherwise : at->second.text;
}
std::vector<int64_t> OnnxNode::wholes(const char* name, std::vector<int64_t> otherwise) const {
  const auto at = attributes.find(name);
  return at == attributes.end() ? otherwise : at->second.wholes;
}

OnnxGraph read_onnx(const void* bytes, size_t size, void (*check)(const OnnxNode& node)) {
  OnnxGraph graph;
  bool found = false;
  for (Message model(static_cast<const uint8_t*>(bytes), size); model.next();) {
    if (model.field == 14) {
      std::string key, value;
      for (Message entry = model.message(); entry.next();) {
        if (entry.field == 1) key = entry.text();
        if (entry.field == 2) value = entry.text();
      }
      graph.metadata[key] = value;
    }
    if (model.field != 7) continue;
    found = true;
    for (Message m = model.message(); m.next();) {
      switch (m.field) {
        case 1:
          graph.nodes.push_back(read_node(m.message()));
          check(graph.nodes.back());
          break;
        case 5: {
          OnnxTensor tensor = read_tensor(m.message());
          graph.constants[tensor.name] = std::move(tensor);
          break;
        }
        case 11: graph.inputs.push_back(read_end(m.message())); break;
        case 12: graph.outputs.push_back(read_end(m.message())); break;
      }
    }
  }
  if (!found) throw Unfit("not an ONNX file: it has no graph.");
  return graph;
}

}  // namespace se
