// SPDX-License-Identifier: Apache-2.0
// From an ONNX graph to steps: activations and sums are drawn into the layers before them, and pointwise layers into the depthwise
// ones behind them.
#include <algorithm>
#include <limits>
#include <set>

#include "net/network.h"

namespace se {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMostChannels = 1 << 16;

// [outputs][rest] -> [tile][rest][outputs of the tile].
std::vector<float> in_tiles(const std::vector<float>& weights, int32_t outputs, int32_t tile) {
  const size_t rest = weights.size() / static_cast<size_t>(outputs);
  std::vector<float> packed(weights.size());
  for (int32_t first = 0; first < outputs; first += tile) {
    const auto count = static_cast<size_t>(std::min(tile, outputs - first));
    float* to = packed.data() + static_cast<size_t>(first) * rest;
    for (size_t r = 0; r < count; ++r) {
      const float* from = weights.data() + (static_cast<size_t>(first) + r) * rest;
      for (size_t k = 0; k < rest; ++k) to[k * count + r] = from[k];
    }
  }
  return packed;
}

}  // namespace

class Network::Compiler {
 public:
  Compiler(Network* to, OnnxGraph graph) : to_(*to), graph_(std::move(graph)) {}

  // Refuses what cannot be taken, whatever it is of.
  static void check(const OnnxNode& node) {
    if (taker(node.op) == nullptr && node.op != "Relu" && node.op != "Clip") refuse(node.op);
  }

  void run() {
    ends();
    for (const OnnxNode& node : graph_.nodes)
      for (const std::string& name : node.inputs)
        if (!name.empty()) users_[name].push_back(&node);
    for (const OnnxEnd& end : graph_.outputs) users_[end.name].push_back(nullptr);
    for (const OnnxNode& node : graph_.nodes)
      if (done_.count(&node) == 0) take(node);
    const auto last = tensors_.find(graph_.outputs[0].name);
    if (last == tensors_.end() || tensor(last->second).vector) throw Unfit("its output is not a map.");
    to_.output_ = last->second;
    draw_in();
  }

 private:
  void ends() {
    if (graph_.outputs.size() != 1) throw Unfit("it has more outputs than one.");
    std::vector<OnnxEnd> inputs;
    for (const OnnxEnd& end : graph_.inputs)
      if (graph_.constants.count(end.name) == 0) inputs.push_back(end);
    if (inputs.size() != 1 || inputs[0].type != 1 || inputs[0].dims.size() != 4 || inputs[0].dims[0] > 1 || inputs[0].dims[1] != 3)
      throw Unfit("its input is not one picture of floats [1, 3, height, width].");
    for (int i = 2; i < 4; ++i)
      if (inputs[0].dims[i] < 0 || inputs[0].dims[i] > 4096) throw Unfit("its input's size makes no sense.");
    to_.fixed_height_ = static_cast<int32_t>(inputs[0].dims[2]);
    to_.fixed_width_ = static_cast<int32_t>(inputs[0].dims[3]);
    Step step;
    step.kind = Kind::kStart;
    step.weights.assign(3, 1.0f);
    step.bias.assign(3, 0.0f);
    emit(step, inputs[0].name, 3, false);
  }

  Tensor& tensor(int32_t id) { return to_.tensors_[static_cast<size_t>(id)]; }

  void emit(Step step, const std::string& name, int32_t channels, bool vector) {
    if (channels < 1 || channels > kMostChannels) throw Unfit("a layer has " + std::to_string(channels) + " channels.");
    step.out = static_cast<int32_t>(to_.tensors_.size());
    Tensor made;
    made.channels = channels;
    made.vector = vector;
    to_.tensors_.push_back(made);
    tensors_[name] = step.out;
    to_.steps_.push_back(std::move(step));
  }

  const OnnxTensor* constant(const std::string& name) const {
    const auto at = graph_.constants.find(name);
    return at == graph_.constants.end() ? nullptr : &at->second;
  }
  const OnnxTensor* constant(const OnnxNode& node, size_t i) const {
    return i < node.inputs.size() && !node.inputs[i].empty() ? constant(node.inputs[i]) : nullptr;
  }
  int32_t input(const OnnxNode& node, size_t i) const {
    const auto at = i < node.inputs.size() ? tensors_.find(node.inputs[i]) : tensors_.end();
    if (at == tensors_.end()) throw Unfit("a " + node.op + " is of something that is not known.");
    return at->second;
  }
  const std::string& output(const OnnxNode& node) const {
    if (node.outputs.size() != 1) throw Unfit("a " + node.op + " has more outputs than one.");
    return node.outputs[0];
  }
  // Who alone uses a value; null when several do, or the graph's end.
  const OnnxNode* user(const std::string& name) const {
    const auto at = users_.find(name);
    return at != users_.end() && at->second.size() == 1 ? at->second[0] : nullptr;
  }

  using Take = void (Compiler::*)(const OnnxNode& node);

  // Null for a layer of a kind that is not known.
  static Take taker(const std::string& op) {
    static const std::map<std::string, Take> kinds = {
        {"Conv", &Compiler::conv}, {"Cast", &Compiler::cast}, {"Mul", &Compiler::arithmetic}, {"Sub", &Compiler::arithmetic},
        {"Add", &Compiler::arithmetic}, {"Div", &Compiler::arithmetic}, {"Resize", &Compiler::resize}, {"Concat", &Compiler::concat},
        {"Slice", &Compiler::slice}, {"ReduceMean", &Compiler::mean}, {"GlobalAveragePool", &Compiler::mean}, {"Gemm", &Compiler::linear},
        {"Unsqueeze", &Compiler::same}, {"Squeeze", &Compiler::same}, {"Flatten", &Compiler::same},
    };
    const auto at = kinds.find(op);
    return at == kinds.end() ? nullptr : at->second;
  }

  [[noreturn]] static void refuse(const std::string& op) { throw Unfit("it has a layer of a kind that they lack: " + op + "."); }

  void take(const OnnxNode& node) {
    const Take taken = taker(node.op);
    if (taken == nullptr) refuse(node.op);
    (this->*taken)(node);
  }

  void same(const OnnxNode& node) {
    const int32_t in = input(node, 0);
    if (!tensor(in).vector) throw Unfit("a " + node.op + " changes a map's shape.");
    tensors_[output(node)] = in;
  }

  void cast(const OnnxNode& node) {
    const auto at = node.inputs.empty() ? graph_.constants.end() : graph_.constants.find(node.inputs[0]);
    if (at == graph_.constants.end() || node.whole("to", 0) != 1 || (at->second.real.empty() && !at->second.dims.empty()))
      throw Unfit("it casts values.");
    OnnxTensor value = user(at->first) != nullptr ? std::move(at->second) : at->second;  // weights are large
    graph_.constants.insert_or_assign(output(node), std::move(value));
  }

  void conv(const OnnxNode& node) {
    const int32_t in = input(node, 0), channels = tensor(in).channels;
    const OnnxTensor *weights = constant(node, 1), *bias = constant(node, 2);
    if (tensor(in).vector || weights == nullptr || weights->real.empty() || weights->dims.size() != 4 ||
        (node.inputs.size() > 2 && !node.inputs[2].empty() && bias == nullptr))
      throw Unfit("a convolution's weights are not constant.");
    const std::vector<int64_t>& dims = weights->dims;
    const std::vector<int64_t> pads = node.wholes("pads", {0, 0, 0, 0}), strides = node.wholes("strides", {1, 1}),
                               dilations = node.wholes("dilations", {1, 1});
    const std::string automatic = node.text("auto_pad", "NOTSET");
    const int64_t group = node.whole("group", 1), kernel = dims[2], stride = strides.empty() ? 0 : strides[0];
    const bool depthwise = group > 1;
    const auto outside = [&](int64_t pad) { return pad < 0 || pad >= kernel; };
    if (automatic != "NOTSET" || dims[3] != kernel || strides.size() != 2 || strides[1] != stride || pads.size() != 4 ||
        dilations != std::vector<int64_t>{1, 1} || (kernel != 1 && kernel != 3 && kernel != 5) || stride < 1 || stride > 2 ||
        (kernel == 1 && stride != 1) || std::any_of(pads.begin(), pads.end(), outside) || dims[0] < 1 || dims[0] > kMostChannels)
      throw Unfit("a convolution is of a kind that they lack.");
    if (depthwise ? group != channels || dims[0] != group || dims[1] != 1 || kernel == 1 : group != 1 || dims[1] != channels)
      throw Unfit("a convolution has groups of a kind that they lack, or does not fit its input.");
    Step step;
    const auto outputs = static_cast<int32_t>(dims[0]);
    step.kind = depthwise ? Kind::kDepth : kernel == 1 ? Kind::kPoint : Kind::kDense;
    step.in = in;
    step.kernel = static_cast<int32_t>(kernel);
    step.stride = static_cast<int32_t>(stride);
    step.top = static_cast<int32_t>(pads[0]);
    step.left = static_cast<int32_t>(pads[1]);
    step.bottom = static_cast<int32_t>(pads[2]);
    step.right = static_cast<int32_t>(pads[3]);
    step.weights = depthwise ? weights->real : in_tiles(weights->real, outputs, to_.table_->tile);
    step.bias = bias != nullptr ? bias->real : std::vector<float>(static_cast<size_t>(outputs));
    if (step.bias.size() != static_cast<size_t>(outputs)) throw Unfit("a convolution's bias does not fit it.");
    const std::string name = ending(node, &step, outputs, !depthwise);
    emit(std::move(step), name, outputs, false);
  }

  // Draws the activation and the sum that follow into a step; gives the name of what then comes out.
  std::string ending(const OnnxNode& node, Step* step, int32_t outputs, bool sums) {
    std::string name = output(node);
    step->low = -kInfinity;
    step->high = kInfinity;
    const OnnxNode* next = user(name);
    if (next != nullptr && next->op == "Relu") {
      step->low = 0;
      name = skip(*next);
    } else if (next != nullptr && next->op == "Clip") {
      const OnnxTensor *low = constant(*next, 1), *high = constant(*next, 2);
      if (low == nullptr || high == nullptr || low->real.size() != 1 || high->real.size() != 1) throw Unfit("a Clip's bounds are not constant.");
      step->low = low->real[0];
      step->high = high->real[0];
      name = skip(*next);
    }
    next = user(name);
    if (sums && next != nullptr && next->op == "Add" && next->inputs.size() == 2) {
      const auto other = tensors_.find(next->inputs[next->inputs[0] == name ? 1 : 0]);
      if (other != tensors_.end() && !tensor(other->second).vector && tensor(other->second).channels == outputs) {
        step->add = other->second;
        name = skip(*next);
      }
    }
    return name;
  }

  std::string skip(const OnnxNode& node) {
    done_.insert(&node);
    return output(node);
  }

  // Of the input with constants, or of a map with a vector.
  void arithmetic(const OnnxNode& node) {
    if (node.inputs.size() != 2) throw Unfit("a " + node.op + " has not two inputs.");
    if (constant(node, 1) == nullptr && constant(node, 0) == nullptr) return add_vector(node);
    const size_t which = constant(node, 1) != nullptr ? 1 : 0;
    const OnnxTensor& by = *constant(node, which);
    const int32_t in = input(node, 1 - which);
    if (in != to_.steps_[0].out || to_.steps_.size() != 1 || user(node.inputs[1 - which]) == nullptr ||
        (which == 0 && (node.op == "Sub" || node.op == "Div")))
      throw Unfit("it has a " + node.op + " within.");
    if (by.real.size() != 1 && !(by.real.size() == 3 && by.dims.size() >= 3 && by.dims[by.dims.size() - 3] == 3))
      throw Unfit("a " + node.op + " of the input is not by one number for each channel.");
    Step& start = to_.steps_[0];
    for (size_t c = 0; c < 3; ++c) {
      const float v = by.real[by.real.size() == 1 ? 0 : c];
      if (node.op == "Mul" || node.op == "Div") {
        const float gain = node.op == "Mul" ? v : 1.0f / v;
        start.weights[c] *= gain;
        start.bias[c] *= gain;
      } else {
        start.bias[c] += node.op == "Add" ? v : -v;
      }
    }
    tensors_[output(node)] = in;
  }

  void add_vector(const OnnxNode& node) {
    if (node.op != "Add") throw Unfit("it has a " + node.op + " of two maps.");
    int32_t map = input(node, 0), vector = input(node, 1);
    if (tensor(map).vector) std::swap(map, vector);
    if (tensor(map).vector || !tensor(vector).vector || tensor(map).channels != tensor(vector).channels)
      throw Unfit("it has a sum of a kind that they lack.");
    Step step;
    step.kind = Kind::kAddVector;
    step.in = map;
    step.add = vector;
    emit(std::move(step), output(node), tensor(map).channels, false);
  }

  void resize(const OnnxNode& node) {
    const int32_t in = input(node, 0);
    const OnnxTensor* scales = constant(node, 2);
    if (scales == nullptr || scales->real != std::vector<float>{1, 1, 2, 2} || tensor(in).vector || node.text("mode", "nearest") != "linear" ||
        node.text("coordinate_transformation_mode", "half_pixel") != "half_pixel" || node.whole("antialias", 0) != 0)
      throw Unfit("it resizes otherwise than to the double, bilinear.");
    Step step;
    step.kind = Kind::kEnlarge;
    step.in = in;
    emit(std::move(step), output(node), tensor(in).channels, false);
  }

  // Parts write where the whole lies.
  void concat(const OnnxNode& node) {
    if (node.whole("axis", 0) != 1 || node.inputs.empty()) throw Unfit("it concatenates otherwise than channels.");
    Tensor whole;
    const auto id = static_cast<int32_t>(to_.tensors_.size());
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      Tensor& part = tensor(input(node, i));
      if (part.vector || part.whole >= 0) throw Unfit("a map is part of two concatenations.");
      part.whole = id;
      part.first_channel = whole.channels;
      whole.channels += part.channels;
      if (whole.channels > kMostChannels) throw Unfit("a concatenation has too many channels.");
    }
    to_.tensors_.push_back(whole);
    tensors_[output(node)] = id;
  }

  void slice(const OnnxNode& node) {
    const int32_t in = input(node, 0);
    const OnnxTensor *starts = constant(node, 1), *ends = constant(node, 2), *axes = constant(node, 3), *steps = constant(node, 4);
    const auto one = [](const OnnxTensor* t) { return t != nullptr && t->whole.size() == 1; };
    if (tensor(in).vector || !one(starts) || !one(ends) || !one(axes) || (axes->whole[0] != 1 && axes->whole[0] != -3) ||
        (node.inputs.size() > 4 && !node.inputs[4].empty() && (!one(steps) || steps->whole[0] != 1)))
      throw Unfit("it slices otherwise than channels.");
    const int64_t channels = tensor(in).channels;
    const auto place = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + channels : at, 0, channels); };
    const int64_t first = place(starts->whole[0]), end = place(ends->whole[0]);
    Step step;
    step.kind = Kind::kCopy;
    step.in = in;
    step.first = static_cast<int32_t>(first);
    emit(std::move(step), output(node), static_cast<int32_t>(end - first), false);
  }

  void mean(const OnnxNode& node) {
    const int32_t in = input(node, 0);
    std::vector<int64_t> axes = {2, 3};
    if (node.op == "ReduceMean") {
      axes = node.wholes("axes", {});
      if (const OnnxTensor* given = constant(node, 1)) axes = given->whole;
      for (int64_t& a : axes) a = a < 0 ? a + 4 : a;
      std::sort(axes.begin(), axes.end());
    }
    if (tensor(in).vector || axes != std::vector<int64_t>{2, 3}) throw Unfit("it takes a mean otherwise than of whole channels.");
    Step step;
    step.kind = Kind::kMean;
    step.in = in;
    emit(std::move(step), output(node), tensor(in).channels, true);
  }

  void linear(const OnnxNode& node) {
    const int32_t in = input(node, 0);
    const OnnxTensor *weights = constant(node, 1), *bias = constant(node, 2);
    const auto one = [&](const char* name) {
      const auto at = node.attributes.find(name);
      return at == node.attributes.end() || at->second.real == 1.0f;
    };
    if (!tensor(in).vector || weights == nullptr || weights->dims.size() != 2 || weights->real.empty() || node.whole("transB", 0) != 1 ||
        node.whole("transA", 0) != 0 || !one("alpha") || !one("beta") || weights->dims[1] != tensor(in).channels ||
        (bias != nullptr && static_cast<int64_t>(bias->real.size()) != weights->dims[0]) || (bias == nullptr && node.inputs.size() > 2))
      throw Unfit("it has a Gemm of a kind that they lack.");
    Step step;
    step.kind = Kind::kLinear;
    step.in = in;
    step.weights = weights->real;
    step.bias = bias != nullptr ? bias->real : std::vector<float>(static_cast<size_t>(weights->dims[0]));
    emit(std::move(step), output(node), static_cast<int32_t>(weights->dims[0]), true);
  }

  // What lies between a pointwise layer and a depthwise one is the network's largest maps: band by band it never goes to memory.
  // Drawn in before, where it makes many channels of few; else behind.
  void draw_in() {
    std::vector<int32_t> uses(to_.tensors_.size());
    ++uses[static_cast<size_t>(to_.output_)];
    for (const Step& step : to_.steps_) {
      if (step.in >= 0) ++uses[static_cast<size_t>(step.in)];
      if (step.add >= 0) ++uses[static_cast<size_t>(step.add)];
    }
    const auto between = [&](const Step& first, const Step& second) {
      return first.out == second.in && uses[static_cast<size_t>(second.in)] == 1 && tensor(second.in).whole < 0;
    };
    std::vector<Step> kept;
    for (Step& step : to_.steps_) {
      Step* before = kept.empty() ? nullptr : &kept.back();
      if (before != nullptr && before->kind == Kind::kPoint && step.kind == Kind::kDepth && before->add < 0 && between(*before, step) &&
          tensor(before->out).channels >= 2 * tensor(before->in).channels) {
        step.drawn = Step::Drawn::kBefore;
        step.in = before->in;
        take_point(*before, &step);
        *before = std::move(step);
      } else if (before != nullptr && before->kind == Kind::kDepth && before->drawn == Step::Drawn::kNone && step.kind == Kind::kPoint &&
                 between(*before, step)) {
        before->drawn = Step::Drawn::kBehind;
        before->out = step.out;
        before->add = step.add;
        take_point(step, before);
      } else {
        kept.push_back(std::move(step));
      }
    }
    to_.steps_ = std::move(kept);
  }

  static void take_point(Step& from, Step* to) {
    to->point = std::move(from.weights);
    to->point_bias = std::move(from.bias);
    to->point_low = from.low;
    to->point_high = from.high;
  }

  Network& to_;
  OnnxGraph graph_;
  std::map<std::string, std::vector<const OnnxNode*>> users_;
  std::map<std::string, int32_t> tensors_;
  std::set<const OnnxNode*> done_;
};

Network::Network(const void* onnx, size_t size, int32_t isa) : table_(net_table(isa)) {
  if (table_ == nullptr) throw Unfit("this machine does not have that instruction set.");
  OnnxGraph graph = read_onnx(onnx, size, Compiler::check);
  metadata_ = graph.metadata;
  Compiler(this, std::move(graph)).run();
}

Network::~Network() = default;

}  // namespace se
