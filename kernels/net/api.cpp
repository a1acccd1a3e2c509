// SPDX-License-Identifier: Apache-2.0
#include "core/check.h"
#include "net/network.h"
#include "secondeye/network.h"

using namespace se;

struct se_network {
  Network network;
};

namespace {

// Planes of floats, one behind the other.
bool packed(const se_array& a) {
  const int64_t row = int64_t{4} * a.width;
  return a.stride_x == 4 && a.stride_y == row && (a.channels == 1 || a.stride_c == row * a.height);
}

// What `work` throws, as a status.
template <typename Work>
int32_t guarded(const Work& work) {
  try {
    return work();
  } catch (const Unfit&) {
    return SE_ERROR_BAD_SHAPE;
  } catch (const std::bad_alloc&) {
    return SE_ERROR_OUT_OF_MEMORY;
  }
}

}  // namespace

extern "C" {

int32_t se_network_open(const void* onnx, size_t size, int32_t isa, se_network** network, char* message, size_t message_size) {
  if (network != nullptr) *network = nullptr;
  if (network == nullptr || (onnx == nullptr && size != 0)) {
    say(message, message_size, se_status_string(SE_ERROR_NULL_POINTER));
    return SE_ERROR_NULL_POINTER;
  }
  try {
    *network = new se_network{Network(onnx, size, isa)};
    return SE_OK;
  } catch (const Unfit& error) {
    say(message, message_size, error.what());
    return SE_ERROR_MODEL;
  } catch (const std::exception&) {
    say(message, message_size, "there is not enough memory for the network.");
    return SE_ERROR_OUT_OF_MEMORY;
  }
}

void se_network_close(se_network* network) { delete network; }

const char* se_network_metadata(const se_network* network, const char* key) {
  if (network == nullptr || key == nullptr) return nullptr;
  const auto at = network->network.metadata().find(key);
  return at == network->network.metadata().end() ? nullptr : at->second.c_str();
}

int32_t se_network_input(const se_network* network, int32_t* height, int32_t* width) {
  if (network == nullptr || height == nullptr || width == nullptr) return SE_ERROR_NULL_POINTER;
  *height = network->network.fixed_height();
  *width = network->network.fixed_width();
  return SE_OK;
}

int32_t se_network_shape(se_network* network, int32_t height, int32_t width, int32_t* map_height, int32_t* map_width, int32_t* channels) {
  if (network == nullptr || map_height == nullptr || map_width == nullptr || channels == nullptr) return SE_ERROR_NULL_POINTER;
  return guarded([&]() -> int32_t {
    network->network.shape(height, width, map_height, map_width);
    *channels = network->network.channels();
    return SE_OK;
  });
}

int32_t se_network_run(se_network* network, const se_exec* exec, const se_array* picture, const se_array* map) {
  if (network == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_exec(exec));
  if (exec->device != SE_CPU) return SE_ERROR_NO_BACKEND;
  SE_TRY(check_array(picture, 1u << SE_FLOAT32, 3, 3));
  SE_TRY(check_array(map, 1u << SE_FLOAT32, 1, INT32_MAX));
  SE_TRY(check_disjoint(*map, *picture));
  if (map->channels != network->network.channels()) return SE_ERROR_BAD_SHAPE;
  if (!packed(*picture) || !packed(*map)) return SE_ERROR_BAD_STRIDE;
  return guarded([&]() -> int32_t {
    return network->network.run(exec->threads, static_cast<const float*>(picture->data), picture->height, picture->width,
                                static_cast<float*>(map->data), map->height, map->width, nullptr);
  });
}

}  // extern "C"
