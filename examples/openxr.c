/* SPDX-License-Identifier: Apache-2.0
 *
 * A live session into the two images of an OpenXR swapchain (C99, X11, OpenGL): a picture 2.4 m wide, 2 m ahead, of which
 * each eye sees its own view, made anew for every displayed frame.
 *
 *   cc -std=c99 openxr.c -o openxr $(pkg-config --cflags --libs secondeye openxr x11 gl)
 *   ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgba - | ./openxr 1280 720 depth_builtin.onnx
 *
 * Two rates: a thread reads frames and submits them; the headset's loop calls se_session_render for both eyes at the display's
 * rate. The picture goes through the CPU's memory (glTexSubImage2D). The swapchain is a texture array of two layers, one for
 * each eye; its colours are the picture's own bytes, so it is asked for as sRGB. A quad layer puts it before the wearer; some
 * runtimes take few formats there: where yours refuses, draw the same two textures in a projection layer.
 *
 * It compiles against OpenXR 1.0's headers; it has not been run with a headset yet.
 */
#define _POSIX_C_SOURCE 200809L
#define XR_USE_GRAPHICS_API_OPENGL
#define XR_USE_PLATFORM_XLIB
#define GL_GLEXT_PROTOTYPES
#include <GL/gl.h>
#include <GL/glext.h>
#include <GL/glx.h>
#include <X11/Xlib.h>
#include <openxr/openxr.h>
#include <openxr/openxr_platform.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "secondeye/session.h"

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "openxr: %s failed\n", what);
  exit(1);
}
#define XR(call) check(XR_SUCCEEDED(call), #call)

struct input {
  se_session *session;
  int width, height;
};

static se_array rgba(void *data, int32_t height, int32_t width) {
  se_array a;
  a.data = data;
  a.height = height;
  a.width = width;
  a.channels = 4;
  a.dtype = SE_UINT8;
  a.stride_y = (int64_t)width * 4;
  a.stride_x = 4;
  a.stride_c = 1;
  return a;
}

/* Frames from standard input; results are not needed, since the headset's loop renders its own views. */
static void *reads(void *argument) {
  struct input *in = argument;
  const size_t bytes = (size_t)in->width * (size_t)in->height * 4;
  uint8_t *memory = malloc(bytes);
  se_session_result result;
  se_array frame = rgba(memory, in->height, in->width);
  while (memory != NULL && fread(memory, 1, bytes, stdin) == bytes) {
    if (se_session_submit(in->session, &frame, 0, 0, NULL) == SE_ERROR_CLOSED) break;
    while (se_session_wait(in->session, 0, &result) == SE_OK) se_session_release(in->session, result.ticket);
  }
  free(memory);
  return NULL;
}

static void open_gl(XrGraphicsBindingOpenGLXlibKHR *binding) {
  static int wanted[] = {GLX_RENDER_TYPE, GLX_RGBA_BIT, GLX_DRAWABLE_TYPE, GLX_PBUFFER_BIT, None};
  static int size[] = {GLX_PBUFFER_WIDTH, 16, GLX_PBUFFER_HEIGHT, 16, None};
  int count = 0;
  XVisualInfo *visual;
  GLXFBConfig *configs;
  memset(binding, 0, sizeof *binding);
  binding->type = XR_TYPE_GRAPHICS_BINDING_OPENGL_XLIB_KHR;
  binding->xDisplay = XOpenDisplay(NULL);
  check(binding->xDisplay != NULL, "XOpenDisplay");
  configs = glXChooseFBConfig(binding->xDisplay, DefaultScreen(binding->xDisplay), wanted, &count);
  check(count > 0, "glXChooseFBConfig");
  binding->glxFBConfig = configs[0];
  visual = glXGetVisualFromFBConfig(binding->xDisplay, configs[0]);
  binding->visualid = visual != NULL ? (uint32_t)visual->visualid : 0;
  binding->glxDrawable = glXCreatePbuffer(binding->xDisplay, configs[0], size);
  binding->glxContext = glXCreateNewContext(binding->xDisplay, configs[0], GLX_RGBA_TYPE, NULL, True);
  check(glXMakeCurrent(binding->xDisplay, binding->glxDrawable, binding->glxContext), "glXMakeCurrent");
}

static XrSession open_session(XrInstance instance, const XrGraphicsBindingOpenGLXlibKHR *binding) {
  XrSystemGetInfo which = {XR_TYPE_SYSTEM_GET_INFO, NULL, XR_FORM_FACTOR_HEAD_MOUNTED_DISPLAY};
  XrGraphicsRequirementsOpenGLKHR needs = {XR_TYPE_GRAPHICS_REQUIREMENTS_OPENGL_KHR, NULL, 0, 0};
  XrSessionCreateInfo create = {XR_TYPE_SESSION_CREATE_INFO, NULL, 0, 0};
  PFN_xrGetOpenGLGraphicsRequirementsKHR requirements = NULL;
  XrSession session = XR_NULL_HANDLE;
  create.next = binding;
  XR(xrGetSystem(instance, &which, &create.systemId));
  XR(xrGetInstanceProcAddr(instance, "xrGetOpenGLGraphicsRequirementsKHR", (PFN_xrVoidFunction *)&requirements));
  XR(requirements(instance, create.systemId, &needs)); /* asked for before a session may be made */
  XR(xrCreateSession(instance, &create, &session));
  return session;
}

/* Both eyes' views of the newest frame into the layers of the swapchain's next image. */
static void show(se_session *stereo, XrSwapchain swapchain, const XrSwapchainImageOpenGLKHR *images,
                 const se_render_view *views, uint8_t *const *memory, uint64_t *shown) {
  const XrSwapchainImageWaitInfo wait = {XR_TYPE_SWAPCHAIN_IMAGE_WAIT_INFO, NULL, XR_INFINITE_DURATION};
  uint32_t index = 0;
  int eye;
  XR(xrAcquireSwapchainImage(swapchain, NULL, &index));
  XR(xrWaitSwapchainImage(swapchain, &wait));
  if (se_session_render(stereo, NULL, 2, views, shown) == SE_OK) {
    glBindTexture(GL_TEXTURE_2D_ARRAY, images[index].image);
    for (eye = 0; eye < 2; ++eye)
      glTexSubImage3D(GL_TEXTURE_2D_ARRAY, 0, 0, 0, eye, views[eye].out.width, views[eye].out.height, 1, GL_RGBA,
                      GL_UNSIGNED_BYTE, memory[eye]);
    glFlush();
  }
  XR(xrReleaseSwapchainImage(swapchain, NULL));
}

int main(int argc, char **argv) {
  static const char *const extension = XR_KHR_OPENGL_ENABLE_EXTENSION_NAME;
  XrInstanceCreateInfo create = {XR_TYPE_INSTANCE_CREATE_INFO, NULL, 0, {"SecondEye", 1, "SecondEye", 1, XR_MAKE_VERSION(1, 0, 0)}, 0, NULL, 1, NULL};
  XrReferenceSpaceCreateInfo place = {XR_TYPE_REFERENCE_SPACE_CREATE_INFO, NULL, XR_REFERENCE_SPACE_TYPE_LOCAL, {{0, 0, 0, 1}, {0, 0, 0}}};
  XrSwapchainCreateInfo surface = {XR_TYPE_SWAPCHAIN_CREATE_INFO, NULL, 0, XR_SWAPCHAIN_USAGE_TRANSFER_DST_BIT | XR_SWAPCHAIN_USAGE_SAMPLED_BIT,
                                   GL_SRGB8_ALPHA8, 1, 0, 0, 1, 2, 1};
  const XrSessionBeginInfo begin = {XR_TYPE_SESSION_BEGIN_INFO, NULL, XR_VIEW_CONFIGURATION_TYPE_PRIMARY_STEREO};
  XrGraphicsBindingOpenGLXlibKHR binding;
  XrInstance instance;
  XrSession session;
  XrSpace space;
  XrSwapchain swapchain;
  XrSwapchainImageOpenGLKHR images[8];
  XrCompositionLayerQuad quads[2];
  const XrCompositionLayerBaseHeader *layers[2];
  se_session_config config;
  se_render_view views[2];
  struct input in;
  pthread_t reader;
  uint8_t *memory[2];
  uint64_t shown = 0;
  uint32_t count = 0, k;
  char message[512] = "";
  int eye, running = 0, over = 0;
  if (argc != 4 && argc != 5) {
    fprintf(stderr, "usage: openxr WIDTH HEIGHT MODEL.onnx [LIBONNXRUNTIME] < rgba\n");
    return 2;
  }
  se_session_defaults(&config, atoi(argv[1]), atoi(argv[2]), 4);
  config.depth_every = 0; /* depth as often as it can be had; the views never wait for it */
  config.depth_model = argv[3];
  config.onnxruntime = argc == 5 ? argv[4] : NULL;
  if (se_session_create(&config, &in.session, message, sizeof message) != SE_OK) {
    fprintf(stderr, "openxr: %s\n", message);
    return 1;
  }
  in.width = config.width;
  in.height = config.height;
  for (eye = 0; eye < 2; ++eye) {
    memset(&views[eye], 0, sizeof views[eye]);
    views[eye].eye = eye == 0 ? -0.5f : 0.5f;
    memory[eye] = malloc((size_t)in.width * (size_t)in.height * 4);
    check(memory[eye] != NULL, "malloc");
    /* OpenGL's first row is the bottom: the view is written from there up. */
    views[eye].out = rgba(memory[eye] + (size_t)(in.height - 1) * (size_t)in.width * 4, in.height, in.width);
    views[eye].out.stride_y = -views[eye].out.stride_y;
  }
  check(pthread_create(&reader, NULL, reads, &in) == 0, "pthread_create");

  open_gl(&binding);
  create.enabledExtensionNames = &extension;
  XR(xrCreateInstance(&create, &instance));
  session = open_session(instance, &binding);
  XR(xrCreateReferenceSpace(session, &place, &space));
  surface.width = (uint32_t)in.width;
  surface.height = (uint32_t)in.height;
  XR(xrCreateSwapchain(session, &surface, &swapchain));
  for (k = 0; k < 8; ++k) {
    images[k].type = XR_TYPE_SWAPCHAIN_IMAGE_OPENGL_KHR;
    images[k].next = NULL;
  }
  XR(xrEnumerateSwapchainImages(swapchain, 8, &count, (XrSwapchainImageBaseHeader *)images));
  for (eye = 0; eye < 2; ++eye) {
    memset(&quads[eye], 0, sizeof quads[eye]);
    quads[eye].type = XR_TYPE_COMPOSITION_LAYER_QUAD;
    quads[eye].space = space;
    quads[eye].eyeVisibility = eye == 0 ? XR_EYE_VISIBILITY_LEFT : XR_EYE_VISIBILITY_RIGHT;
    quads[eye].subImage.swapchain = swapchain;
    quads[eye].subImage.imageRect.extent.width = in.width;
    quads[eye].subImage.imageRect.extent.height = in.height;
    quads[eye].subImage.imageArrayIndex = (uint32_t)eye;
    quads[eye].pose.orientation.w = 1;
    quads[eye].pose.position.z = -2;
    quads[eye].size.width = 2.4f;
    quads[eye].size.height = 2.4f * (float)in.height / (float)in.width;
    layers[eye] = (const XrCompositionLayerBaseHeader *)&quads[eye];
  }

  while (!over) {
    XrEventDataBuffer event = {XR_TYPE_EVENT_DATA_BUFFER, NULL, {0}};
    while (xrPollEvent(instance, &event) == XR_SUCCESS) {
      const XrEventDataSessionStateChanged *change = (const XrEventDataSessionStateChanged *)&event;
      if (event.type == XR_TYPE_EVENT_DATA_SESSION_STATE_CHANGED) {
        if (change->state == XR_SESSION_STATE_READY) running = XR_SUCCEEDED(xrBeginSession(session, &begin));
        if (change->state == XR_SESSION_STATE_STOPPING) running = 0, XR(xrEndSession(session));
        over = change->state == XR_SESSION_STATE_EXITING || change->state == XR_SESSION_STATE_LOSS_PENDING;
      }
      event.type = XR_TYPE_EVENT_DATA_BUFFER;
    }
    if (running) {
      XrFrameState state = {XR_TYPE_FRAME_STATE, NULL, 0, 0, XR_FALSE};
      XrFrameEndInfo end = {XR_TYPE_FRAME_END_INFO, NULL, 0, XR_ENVIRONMENT_BLEND_MODE_OPAQUE, 0, NULL};
      XR(xrWaitFrame(session, NULL, &state));
      XR(xrBeginFrame(session, NULL));
      if (state.shouldRender) show(in.session, swapchain, images, views, memory, &shown);
      end.displayTime = state.predictedDisplayTime;
      end.layerCount = shown != 0 ? 2 : 0;
      end.layers = layers;
      XR(xrEndFrame(session, &end));
    }
  }
  se_session_close(in.session);
  xrDestroyInstance(instance);
  return 0; /* the reader may still wait for input; the system takes what is left */
}
