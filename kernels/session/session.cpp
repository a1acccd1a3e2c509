// SPDX-License-Identifier: Apache-2.0
// The C interface of sessions: checks, threads, and nothing that throws.
#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>
#include <thread>

#include "core/check.h"
#include "core/system.h"
#include "session/state.h"

namespace se {
namespace {

int32_t check_params(const se_session_params& p) {
  if (!between(p.strength, 0, 20) || !between(p.convergence, 0, 1)) return SE_ERROR_BAD_PARAMETER;
  if (!between(p.roll, -60, 60)) return SE_ERROR_BAD_PARAMETER;
  if (p.layout < SE_LAYOUT_SBS || p.layout > SE_LAYOUT_DEPTH) return SE_ERROR_BAD_PARAMETER;
  for (const int32_t m : p.anaglyph)
    if (m < -65536 || m > 65536) return SE_ERROR_BAD_PARAMETER;
  return SE_OK;
}

// why: a sentence, unless this is SE_OK.
int32_t check_config(const se_session_config& c, const char** why) {
  const auto refused = [why](int32_t status, const char* sentence) {
    *why = sentence;
    return status;
  };
  if (c.width < 16 || c.height < 16 || c.width > 8192 || c.height > 8192)
    return refused(SE_ERROR_BAD_SHAPE, "width and height of frames have to be 16 to 8192.");
  if (c.channels != 3 && c.channels != 4) return refused(SE_ERROR_BAD_SHAPE, "channels of frames have to be 3 or 4.");
  if (c.policy != SE_POLICY_NEWEST && c.policy != SE_POLICY_EVERY) return refused(SE_ERROR_BAD_PARAMETER, "policy has to be an se_policy.");
  if (c.slots < 2 || c.slots > 16) return refused(SE_ERROR_BAD_PARAMETER, "slots has to be 2 to 16.");
  if (c.depth_every < 0 || c.depth_every > 1000) return refused(SE_ERROR_BAD_PARAMETER, "depth_every has to be 0 to 1000.");
  if (c.key_every < 0 || c.key_every > 1000) return refused(SE_ERROR_BAD_PARAMETER, "key_every has to be 0 to 1000.");
  if (!between(c.deadline_ms, 0, 1e6f)) return refused(SE_ERROR_BAD_PARAMETER, "deadline_ms has to be 0 to a million.");
  if (!between(c.steady, 0, 0.98f)) return refused(SE_ERROR_BAD_PARAMETER, "steady has to be 0 to 0.98.");
  if (c.standard < SE_BT601 || c.standard > SE_BT2020) return refused(SE_ERROR_BAD_PARAMETER, "standard has to be an se_standard.");
  if (c.nv12 != 0 && c.width % 2 != 0) return refused(SE_ERROR_BAD_SHAPE, "the width of NV12 frames has to be even.");
  if (c.widen < 0 || c.widen > 16) return refused(SE_ERROR_BAD_PARAMETER, "widen has to be 0 to 16.");
  if (c.threads < 0 || c.threads > 256) return refused(SE_ERROR_BAD_PARAMETER, "threads has to be 0 to 256.");
  if (c.cheaper > 7) return refused(SE_ERROR_BAD_PARAMETER, "cheaper has to be of se_cheaper's bits.");
  if ((c.depth_model == nullptr) == (c.depth == nullptr))
    return refused(SE_ERROR_NULL_POINTER, "one of depth_model, an ONNX network, and depth, a function, has to be given, and not both.");
  const bool sized = c.depth_width != 0 || c.depth_height != 0 || c.depth_model == nullptr;
  if (sized && (c.depth_width < 8 || c.depth_height < 8 || c.depth_width > 4096 || c.depth_height > 4096))
    return refused(SE_ERROR_BAD_SHAPE, "depth_width and depth_height have to be 8 to 4096, or both 0 for what depth_model says.");
  for (int32_t k = 0; k < 3 && c.depth_model != nullptr && c.std[0] != 0; ++k)
    if (!between(c.mean[k], -1e6f, 1e6f) || !between(std::abs(c.std[k]), 1e-6f, 1e6f))
      return refused(SE_ERROR_BAD_PARAMETER, "mean has to be finite, std finite and not 0 in any channel; std[0] == 0 leaves both to the model.");
  if (c.keep_on_gpu != 0 && c.device == SE_CPU) return refused(SE_ERROR_BAD_PARAMETER, "keep_on_gpu needs device = SE_CUDA.");
  if (const int32_t status = check_params(c.params); status != SE_OK)
    return refused(status, "params have to have strength 0 to 20, convergence 0 to 1, roll -60 to 60, an se_session_layout, and anaglyph of "
                           "-65536 to 65536.");
  se_exec exec{};
  exec.device = c.device;
  exec.isa = c.isa;
  exec.threads = c.threads;
  return check_machine(exec, why);
}

int32_t check_frame(const se_session_config& config, const se_array* frame) {
  const int32_t channels = config.nv12 != 0 ? 1 : config.channels, rows = config.nv12 != 0 ? (config.height + 1) / 2 : 0;
  SE_TRY(check_array(frame, 1u << SE_UINT8, channels, channels));
  if (frame->width != config.width || frame->height != config.height + rows) return SE_ERROR_BAD_SHAPE;
  return config.nv12 != 0 && frame->stride_x != 1 ? SE_ERROR_BAD_STRIDE : SE_OK;
}

}  // namespace
}  // namespace se

struct se_session {
  std::shared_ptr<se::State> state;
  std::vector<std::thread> threads;
  int64_t process = se::process_id();
};

using namespace se;

namespace {

// A process that was forked has none of its parent's threads, and perhaps a mutex that nobody will ever give back.
int32_t check_session(const se_session* session) {
  if (session == nullptr) return SE_ERROR_NULL_POINTER;
  return session->process == process_id() ? SE_OK : SE_ERROR_FORKED;
}

void start(se_session& session, void (State::*loop)()) {
  // The thread keeps the state: a depth function that never returns must not take it away.
  session.state->begin_thread();
  try {
    session.threads.emplace_back([state = session.state, loop] {
      state->enter_thread();
      (state.get()->*loop)();
      state->end_thread();
    });
  } catch (...) {
    session.state->end_thread();
    throw;
  }
}

// What may throw: memory, and a renderer's streams.
template <typename Work>
int32_t guarded(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return SE_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception&) {
    return SE_ERROR_CUDA;
  }
}

int32_t render(se_session* session, const se_session_params* params, int32_t count, const se_render_view* views, bool on_gpu,
               void* stream, uint64_t* ticket) {
  SE_TRY(check_session(session));
  if (views == nullptr) return SE_ERROR_NULL_POINTER;
  if (count < 1 || count > 256) return SE_ERROR_BAD_PARAMETER;
  if (params != nullptr) SE_TRY(check_params(*params));
  const se_session_config& config = session->state->config();
  if (on_gpu && config.device == SE_CPU) return SE_ERROR_NO_BACKEND;
  for (int32_t k = 0; k < count; ++k) {
    SE_TRY(check_array(&views[k].out, 1u << SE_UINT8, config.channels, config.channels));
    if (views[k].out.width != config.width || views[k].out.height != config.height) return SE_ERROR_BAD_SHAPE;
    if (!between(views[k].eye, -2, 2) || !between(views[k].down, -2, 2) || !between(views[k].shift, -16384, 16384)) return SE_ERROR_BAD_PARAMETER;
  }
  return guarded([&] { return session->state->render(params, count, views, on_gpu, stream, ticket); });
}

int32_t render_quilt(se_session* session, const se_session_params* params, const se_quilt* quilt, const se_array* out, bool on_gpu,
                     void* stream, uint64_t* ticket) {
  SE_TRY(check_session(session));
  if (quilt == nullptr) return SE_ERROR_NULL_POINTER;
  if (quilt->columns < 1 || quilt->rows < 1 || quilt->columns > 256 || quilt->rows > 256 || quilt->columns * quilt->rows > 256)
    return SE_ERROR_BAD_PARAMETER;
  if (!between(quilt->first, -2, 2) || !between(quilt->last, -2, 2) || !between(quilt->down, -2, 2)) return SE_ERROR_BAD_PARAMETER;
  if (params != nullptr) SE_TRY(check_params(*params));
  const se_session_config& config = session->state->config();
  if (on_gpu && config.device == SE_CPU) return SE_ERROR_NO_BACKEND;
  SE_TRY(check_array(out, 1u << SE_UINT8, config.channels, config.channels));
  if (out->width % quilt->columns != 0 || out->height % quilt->rows != 0) return SE_ERROR_BAD_SHAPE;
  return guarded([&] { return session->state->quilt(params, *quilt, *out, on_gpu, stream, ticket); });
}

}  // namespace

extern "C" {

void se_session_defaults(se_session_config* config, int32_t width, int32_t height, int32_t channels) {
  if (config == nullptr) return;
  *config = se_session_config{};
  config->struct_size = sizeof(se_session_config);
  config->width = width;
  config->height = height;
  config->channels = channels;
  config->policy = SE_POLICY_NEWEST;
  config->slots = 4;
  config->depth_every = 1;
  config->cheaper = SE_CHEAPER_NO_DEPTH;
  config->steady = 0.8f;
  config->widen = height >= 540 ? std::min(16, static_cast<int32_t>(2.0 * height / 1080 + 0.5)) : 1;
  config->standard = SE_BT709;
  config->farther = -1;
  config->params.strength = 2.5f;
  config->params.convergence = 0.5f;
  config->params.fill = 1;
  // Dubois's least-squares matrix for red-cyan glasses.
  static const int32_t dubois[18] = {1790, 1839, 672, -45, -131, -29, -254, -254, -98, 1544, 3117, 37, -197, -205, -70, -106, -381, 5054};
  std::copy(dubois, dubois + 18, config->params.anaglyph);
}

int32_t se_session_create(const se_session_config* config, se_session** session, char* message, size_t message_size) {
  if (session != nullptr) *session = nullptr;
  if (config == nullptr || session == nullptr) {
    say(message, message_size, se_status_string(SE_ERROR_NULL_POINTER));
    return SE_ERROR_NULL_POINTER;
  }
  if (config->struct_size != sizeof(se_session_config)) {
    say(message, message_size, "the configuration is of another version of secondeye/session.h; begin with se_session_defaults.");
    return SE_ERROR_BAD_PARAMETER;
  }
  const char* why = "";
  const int32_t status = check_config(*config, &why);
  if (status != SE_OK) {
    say(message, message_size, why);
    return status;
  }
  std::unique_ptr<se_session> made;
  try {
    made = std::make_unique<se_session>();
    made->state = std::make_shared<State>(*config);
    start(*made, &State::look_loop);
    start(*made, &State::warp_loop);
    start(*made, &State::side_loop);
  } catch (const std::bad_alloc&) {
    if (made != nullptr) se_session_destroy(made.release());
    say(message, message_size, "memory for the session's buffers could not be had");
    return SE_ERROR_OUT_OF_MEMORY;
  } catch (const NoDevice& error) {
    if (made != nullptr) se_session_destroy(made.release());
    say(message, message_size, error.what());
    return SE_ERROR_NO_BACKEND;
  } catch (const std::exception& error) {
    if (made != nullptr) se_session_destroy(made.release());
    say(message, message_size, error.what());
    return SE_ERROR_MODEL;
  }
  made->state->own_user();
  *session = made.release();
  return SE_OK;
}

void se_session_close(se_session* session) {
  if (check_session(session) == SE_OK && session->state != nullptr) session->state->close();
}

void se_session_destroy(se_session* session) {
  if (check_session(session) != SE_OK) return;
  if (session->state != nullptr) {
    session->state->close();
    // One of its own threads may come here, back from a depth function that held the last view of the session's memory.
    const auto own = [](const std::thread& thread) { return thread.get_id() == std::this_thread::get_id(); };
    const auto owns = std::count_if(session->threads.begin(), session->threads.end(), own);
    const bool ended = session->state->ended(static_cast<int32_t>(owns), std::chrono::milliseconds(900));
    for (std::thread& thread : session->threads) ended && !own(thread) ? thread.join() : thread.detach();
  }
  delete session;
}

int32_t se_session_get_params(se_session* session, se_session_params* params) {
  SE_TRY(check_session(session));
  if (params == nullptr) return SE_ERROR_NULL_POINTER;
  *params = session->state->params();
  return SE_OK;
}

int32_t se_session_set_params(se_session* session, const se_session_params* params) {
  SE_TRY(check_session(session));
  if (params == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_params(*params));
  session->state->set_params(*params);
  return SE_OK;
}

int32_t se_session_set_overlay(se_session* session, const se_array* rgba, int32_t x, int32_t y, float disparity) {
  SE_TRY(check_session(session));
  if (rgba == nullptr) {
    session->state->set_overlay(nullptr);
    return SE_OK;
  }
  SE_TRY(check_array(rgba, 1u << SE_UINT8, 4, 4));
  const se_session_config& config = session->state->config();
  if (rgba->width > config.width || rgba->height > config.height) return SE_ERROR_BAD_SHAPE;
  if (!between(disparity, -16384, 16384) || std::min(x, y) < -16384 || std::max(x, y) > 16384) return SE_ERROR_BAD_PARAMETER;
  return guarded([&] {
    session->state->set_overlay(session->state->make_overlay(*rgba, x, y, disparity));
    return static_cast<int32_t>(SE_OK);
  });
}

int32_t se_session_set_mask(se_session* session, const se_array* mask, float disparity) {
  SE_TRY(check_session(session));
  if (mask == nullptr) {
    session->state->set_mask(nullptr);
    return SE_OK;
  }
  SE_TRY(check_array(mask, 1u << SE_UINT8, 1, 1));
  const se_session_config& config = session->state->config();
  if (mask->width != config.width || mask->height != config.height) return SE_ERROR_BAD_SHAPE;
  if (!between(disparity, -16384, 16384)) return SE_ERROR_BAD_PARAMETER;
  return guarded([&] {
    session->state->set_mask(session->state->make_mask(*mask, disparity));
    return static_cast<int32_t>(SE_OK);
  });
}

int32_t se_session_submit(se_session* session, const se_array* frame, int64_t timestamp, int32_t timeout_ms, uint64_t* ticket) {
  SE_TRY(check_session(session));
  SE_TRY(check_frame(session->state->config(), frame));
  return session->state->submit(*frame, false, nullptr, timestamp, timeout_ms, ticket);
}

int32_t se_session_submit_on_gpu(se_session* session, const se_array* frame, void* stream, int64_t timestamp, int32_t timeout_ms,
                                 uint64_t* ticket) {
  SE_TRY(check_session(session));
  const se_session_config& config = session->state->config();
  SE_TRY(check_frame(config, frame));
  if (config.device == SE_CPU || config.depth_model == nullptr || config.key_every != 0 || config.remember != 0) return SE_ERROR_NO_BACKEND;
  return session->state->submit(*frame, true, stream, timestamp, timeout_ms, ticket);
}

int32_t se_session_wait(se_session* session, int32_t timeout_ms, se_session_result* result) {
  SE_TRY(check_session(session));
  if (result == nullptr) return SE_ERROR_NULL_POINTER;
  return session->state->wait(timeout_ms, result);
}

int32_t se_session_release(se_session* session, uint64_t ticket) {
  SE_TRY(check_session(session));
  return session->state->release(ticket);
}

int32_t se_session_render(se_session* session, const se_session_params* params, int32_t count,
                          const se_render_view* views, uint64_t* ticket) {
  return render(session, params, count, views, false, nullptr, ticket);
}

int32_t se_session_render_on_gpu(se_session* session, const se_session_params* params, int32_t count,
                                 const se_render_view* views, void* stream, uint64_t* ticket) {
  return render(session, params, count, views, true, stream, ticket);
}

int32_t se_session_render_quilt(se_session* session, const se_session_params* params, const se_quilt* quilt,
                                const se_array* out, uint64_t* ticket) {
  return render_quilt(session, params, quilt, out, false, nullptr, ticket);
}

int32_t se_session_render_quilt_on_gpu(se_session* session, const se_session_params* params, const se_quilt* quilt,
                                       const se_array* out, void* stream, uint64_t* ticket) {
  return render_quilt(session, params, quilt, out, true, stream, ticket);
}

int32_t se_session_wait_key(se_session* session, int32_t timeout_ms, const se_array* picture, uint64_t* ticket) {
  SE_TRY(check_session(session));
  if (ticket == nullptr) return SE_ERROR_NULL_POINTER;
  if (session->state->objects() == nullptr) return SE_ERROR_BAD_PARAMETER;
  const se_session_config& config = session->state->config();
  SE_TRY(check_array(picture, 1u << SE_UINT8, config.channels, config.channels));
  if (picture->width != config.width || picture->height != config.height) return SE_ERROR_BAD_SHAPE;
  return session->state->objects()->wait_key(timeout_ms, *picture, ticket);
}

int32_t se_session_set_labels(se_session* session, uint64_t ticket, const se_array* labels) {
  SE_TRY(check_session(session));
  if (session->state->objects() == nullptr) return SE_ERROR_BAD_PARAMETER;
  if (labels != nullptr) SE_TRY(check_array(labels, 1u << SE_UINT16, 1, 1));
  return session->state->objects()->set_labels(ticket, labels);
}

int32_t se_session_get_stats(se_session* session, se_session_stats* stats) {
  SE_TRY(check_session(session));
  if (stats == nullptr) return SE_ERROR_NULL_POINTER;
  session->state->stats(stats);
  return SE_OK;
}

const char* se_session_depth_error(se_session* session) {
  return check_session(session) != SE_OK ? "" : session->state->depth_error();
}

}  // extern "C"
