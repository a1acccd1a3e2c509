/* SPDX-License-Identifier: Apache-2.0
 *
 * Small networks for depth and objects on the CPU, by kernels of our own and without any other library (C99).
 *
 *   se_network_open(onnx, size, SE_ISA_AUTO, &network, message, sizeof message);
 *   se_network_run(network, &exec, &picture, &map)
 *
 * The network is an ONNX file with one picture as its input and one map as its output, of these layers: convolutions of 1 x 1,
 * 3 x 3 and 5 x 5 with a stride of 1 or 2, of one group or of as many groups as channels; Relu, Clip, Add, Concat and Slice of
 * channels, bilinear Resize to the double, and one mean of whole channels with Gemms behind it. The built-in network is of these,
 * and what secondeye.export.distill trains. Others are refused with a sentence that says what they would need; ONNX Runtime runs
 * them (session.h goes there by itself).
 *
 * What comes out does not depend on threads, and is the same for SE_ISA_AVX2, SE_ISA_AVX512 and SE_ISA_NEON; SE_ISA_BASE rounds
 * otherwise. It is within rounding of ONNX Runtime's.
 */
#ifndef SECONDEYE_NETWORK_H
#define SECONDEYE_NETWORK_H

#include "secondeye/secondeye.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct se_network se_network;

/* onnx: the file's bytes, not needed afterwards. isa: se_isa. message, if not null, gets a sentence when this fails:
 * SE_ERROR_MODEL for a network that is none, or that has other layers. */
SE_API int32_t se_network_open(const void *onnx, size_t size, int32_t isa, se_network **network, char *message, size_t message_size);

/* Null is allowed. Not while it runs. */
SE_API void se_network_close(se_network *network);

/* One of the file's metadata, or null. Valid until close. */
SE_API const char *se_network_metadata(const se_network *network, const char *key);

/* The height and width that the file fixes; 0 where it takes any. */
SE_API int32_t se_network_input(const se_network *network, int32_t *height, int32_t *width);

/* The map's size for a picture's, and its channels. SE_ERROR_BAD_SHAPE: the layers do not take that. Takes the memory that a run needs. */
SE_API int32_t se_network_shape(se_network *network, int32_t height, int32_t width, int32_t *map_height, int32_t *map_width,
                                int32_t *channels);

/* picture: float32 [H, W, 3], planes packed one behind the other (stride_c = 4 H W); map: float32 [map_height, map_width,
 * channels] likewise. exec: threads alone is obeyed. May be called from several threads at once. */
SE_API int32_t se_network_run(se_network *network, const se_exec *exec, const se_array *picture, const se_array *map);

#ifdef __cplusplus
}
#endif
#endif
