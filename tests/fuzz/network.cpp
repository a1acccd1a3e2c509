// SPDX-License-Identifier: Apache-2.0
// Networks from anybody's bytes: refused, or run without a step outside. With Clang's -fsanitize=fuzzer; see .ci/fuzz.
#include <cstdint>
#include <vector>

#include "secondeye/network.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int32_t kIsas[] = {SE_ISA_AUTO, SE_ISA_BASE, SE_ISA_AVX2};
  constexpr int32_t kHeight = 32, kWidth = 48;
  const int32_t isa = kIsas[size % 3];
  se_network* network = nullptr;
  char message[200];
  if (se_network_open(data, size, se_cpu_isa_supported(isa) != 0 ? isa : SE_ISA_AUTO, &network, message, sizeof message) != SE_OK) return 0;
  int32_t height = 0, width = 0, channels = 0;
  if (se_network_shape(network, kHeight, kWidth, &height, &width, &channels) == SE_OK && int64_t{height} * width * channels < 1 << 22) {
    std::vector<float> picture(3 * kHeight * kWidth, 0.5f), map(static_cast<size_t>(height) * static_cast<size_t>(width) * static_cast<size_t>(channels));
    const auto planes = [](std::vector<float>& of, int32_t h, int32_t w, int32_t c) {
      return se_array{of.data(), h, w, c, SE_FLOAT32, int64_t{4} * w, 4, int64_t{4} * h * w};
    };
    const se_array in = planes(picture, kHeight, kWidth, 3), out = planes(map, height, width, channels);
    se_exec exec{};
    exec.threads = 1 + static_cast<int32_t>(size % 2);
    (void)se_network_run(network, &exec, &in, &out);
  }
  se_network_close(network);
  return 0;
}
