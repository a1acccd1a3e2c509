/* SPDX-License-Identifier: Apache-2.0
 *
 * secondeye/interop.h with a real renderer: memory and a timeline semaphore of Vulkan's, a buffer and a texture of
 * OpenGL's (through EGL, without a display). Each has two views put side by side by the GPU, and is read back by its own
 * interface: the bytes have to be the CPU's. Needs an NVIDIA GPU. `interop vulkan`, `interop opengl`: 0 when it holds, 77
 * when the machine has no such renderer.
 *   cc -std=c99 tests/session/interop.c -o interop $(pkg-config --cflags --libs secondeye) -lvulkan -lEGL -lOpenGL
 */
#define GL_GLEXT_PROTOTYPES
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GL/gl.h>
#include <GL/glext.h>
#include <vulkan/vulkan.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "secondeye/interop.h"

enum { HEIGHT = 90, WIDTH = 160, SKIP = 77 };
#define VIEW ((uint64_t)HEIGHT * WIDTH * 4)

#define MUST(condition, what)                                        \
  do {                                                               \
    if (!(condition)) {                                              \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);      \
      exit(1);                                                       \
    }                                                                \
  } while (0)
#define SE(call) do { const int32_t s_ = (call); MUST(s_ == SE_OK, se_status_string(s_)); } while (0)
#define VK(call) MUST((call) == VK_SUCCESS, #call)
#define SKIP_UNLESS(condition, what) do { if (!(condition)) { fprintf(stderr, "skipped: %s\n", what); exit(SKIP); } } while (0)

static se_array picture(void *data, int32_t width) {
  const se_array a = {data, HEIGHT, width, 4, SE_UINT8, 4 * (int64_t)width, 4, 1};
  return a;
}

static unsigned char views[4 * VIEW], want[2 * VIEW], got[4 * VIEW]; /* left, right, and both */

static void pack(int32_t device, void *memory, void *to) {
  se_exec exec;
  memset(&exec, 0, sizeof exec);
  exec.device = device;
  const se_array left = picture(memory, WIDTH), right = picture((char *)memory + VIEW, WIDTH), out = picture(to, 2 * WIDTH);
  SE(se_pack(&exec, SE_PACK_SBS, &left, &right, &out));
}

/* ---- Vulkan ------------------------------------------------------------------------------------------------- */

static VkPhysicalDevice gpu;
static VkDevice device;

static uint32_t memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted) {
  VkPhysicalDeviceMemoryProperties have;
  vkGetPhysicalDeviceMemoryProperties(gpu, &have);
  for (uint32_t k = 0; k < have.memoryTypeCount; ++k)
    if ((allowed >> k & 1) && (have.memoryTypes[k].propertyFlags & wanted) == wanted) return k;
  MUST(0, "no such memory");
  return 0;
}

static VkBuffer buffer_of(int shared, VkDeviceMemory *memory, uint64_t *bytes) {
  const VkExternalMemoryBufferCreateInfo external = {VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, NULL,
                                                     VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
  VkBufferCreateInfo info;
  memset(&info, 0, sizeof info);
  info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  info.pNext = shared ? &external : NULL;
  info.size = 4 * VIEW;
  info.usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  VkBuffer buffer;
  VK(vkCreateBuffer(device, &info, NULL, &buffer));
  VkMemoryRequirements needs;
  vkGetBufferMemoryRequirements(device, buffer, &needs);
  const VkExportMemoryAllocateInfo exported = {VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO, NULL,
                                               VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
  const VkMemoryAllocateInfo allocate = {
      VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, shared ? &exported : NULL, needs.size,
      memory_type(needs.memoryTypeBits, shared ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
                                               : VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)};
  VK(vkAllocateMemory(device, &allocate, NULL, memory));
  VK(vkBindBufferMemory(device, buffer, *memory, 0));
  *bytes = needs.size;
  return buffer;
}

static void submit(VkQueue queue, VkCommandPool pool, VkBuffer from, VkBuffer to, VkSemaphore timeline, uint64_t wait, uint64_t signal) {
  const VkCommandBufferAllocateInfo allocate = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, NULL, pool,
                                                VK_COMMAND_BUFFER_LEVEL_PRIMARY, 1};
  VkCommandBuffer commands;
  VK(vkAllocateCommandBuffers(device, &allocate, &commands));
  const VkCommandBufferBeginInfo begin = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO, NULL, 0, NULL};
  VK(vkBeginCommandBuffer(commands, &begin));
  const VkBufferCopy all = {0, 0, 4 * VIEW};
  vkCmdCopyBuffer(commands, from, to, 1, &all);
  VK(vkEndCommandBuffer(commands));
  const VkTimelineSemaphoreSubmitInfo values = {VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO, NULL, 1, &wait, 1, &signal};
  const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_TRANSFER_BIT;
  const VkSubmitInfo info = {VK_STRUCTURE_TYPE_SUBMIT_INFO, &values, 1, &timeline, &stage, 1, &commands, 1, &timeline};
  VK(vkQueueSubmit(queue, 1, &info, VK_NULL_HANDLE));
}

static void vulkan(void) {
  VkApplicationInfo app;
  memset(&app, 0, sizeof app);
  app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  app.apiVersion = VK_API_VERSION_1_2;
  VkInstanceCreateInfo instance_info;
  memset(&instance_info, 0, sizeof instance_info);
  instance_info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  instance_info.pApplicationInfo = &app;
  VkInstance instance;
  SKIP_UNLESS(vkCreateInstance(&instance_info, NULL, &instance) == VK_SUCCESS, "no Vulkan");
  uint32_t count = 8;
  VkPhysicalDevice devices[8];
  SKIP_UNLESS(vkEnumeratePhysicalDevices(instance, &count, devices) >= 0 && count > 0, "no Vulkan device");
  for (uint32_t k = 0; k < count && gpu == VK_NULL_HANDLE; ++k) {
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(devices[k], &properties);
    if (properties.vendorID == 0x10de) gpu = devices[k];
  }
  SKIP_UNLESS(gpu != VK_NULL_HANDLE, "no Vulkan device of NVIDIA's");
  const float priority = 1;
  const VkDeviceQueueCreateInfo queue_info = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, NULL, 0, 0, 1, &priority};
  VkPhysicalDeviceVulkan12Features features;
  memset(&features, 0, sizeof features);
  features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
  features.timelineSemaphore = VK_TRUE;
  const char *extensions[] = {"VK_KHR_external_memory_fd", "VK_KHR_external_semaphore_fd"};
  const VkDeviceCreateInfo device_info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features, 0, 1, &queue_info, 0, NULL, 2, extensions, NULL};
  VK(vkCreateDevice(gpu, &device_info, NULL, &device));
  VkQueue queue;
  vkGetDeviceQueue(device, 0, 0, &queue);
  const VkCommandPoolCreateInfo pool_info = {VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, NULL, 0, 0};
  VkCommandPool pool;
  VK(vkCreateCommandPool(device, &pool_info, NULL, &pool));

  VkDeviceMemory shared_memory, host_memory;
  uint64_t shared_bytes, host_bytes;
  const VkBuffer shared = buffer_of(1, &shared_memory, &shared_bytes), host = buffer_of(0, &host_memory, &host_bytes);
  void *mapped;
  VK(vkMapMemory(device, host_memory, 0, VK_WHOLE_SIZE, 0, &mapped));
  memcpy(mapped, views, sizeof views);

  VkExportSemaphoreCreateInfo exported = {VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO, NULL, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT};
  const VkSemaphoreTypeCreateInfo type = {VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, &exported, VK_SEMAPHORE_TYPE_TIMELINE, 0};
  const VkSemaphoreCreateInfo semaphore_info = {VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, &type, 0};
  VkSemaphore timeline;
  VK(vkCreateSemaphore(device, &semaphore_info, NULL, &timeline));

  const PFN_vkGetMemoryFdKHR memory_fd = (PFN_vkGetMemoryFdKHR)vkGetDeviceProcAddr(device, "vkGetMemoryFdKHR");
  const PFN_vkGetSemaphoreFdKHR semaphore_fd = (PFN_vkGetSemaphoreFdKHR)vkGetDeviceProcAddr(device, "vkGetSemaphoreFdKHR");
  const VkMemoryGetFdInfoKHR memory_handle = {VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR, NULL, shared_memory, VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
  const VkSemaphoreGetFdInfoKHR semaphore_handle = {VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR, NULL, timeline, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT};
  int fd;
  VK(memory_fd(device, &memory_handle, &fd));
  se_external_memory *memory;
  SE(se_external_memory_import(fd, shared_bytes, SE_HANDLE_FD, &memory));
  VK(semaphore_fd(device, &semaphore_handle, &fd));
  se_external_semaphore *semaphore;
  SE(se_external_semaphore_import(fd, SE_HANDLE_FD, &semaphore));

  for (uint64_t frame = 0; frame < 3; ++frame) {
    const uint64_t now = 3 * frame;
    char *data = se_external_memory_data(memory);
    submit(queue, pool, host, shared, timeline, now, now + 1);
    SE(se_external_wait(semaphore, now + 1, NULL));
    pack(SE_CUDA, data, data + 2 * VIEW);
    SE(se_external_signal(semaphore, now + 2, NULL));
    submit(queue, pool, shared, host, timeline, now + 2, now + 3);
    const uint64_t done = now + 3;
    const VkSemaphoreWaitInfo wait = {VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, NULL, 0, 1, &timeline, &done};
    VK(vkWaitSemaphores(device, &wait, 5000000000ull));
    MUST(memcmp((char *)mapped + 2 * VIEW, want, sizeof want) == 0, "Vulkan reads other bytes than the CPU makes");
    memset((char *)mapped + 2 * VIEW, 0, sizeof want);
  }
  se_external_semaphore_release(semaphore);
  se_external_memory_release(memory);
  VK(vkDeviceWaitIdle(device));
  vkDestroySemaphore(device, timeline, NULL);
  vkDestroyBuffer(device, shared, NULL);
  vkDestroyBuffer(device, host, NULL);
  vkFreeMemory(device, shared_memory, NULL);
  vkFreeMemory(device, host_memory, NULL);
  vkDestroyCommandPool(device, pool, NULL);
  vkDestroyDevice(device, NULL);
  vkDestroyInstance(instance, NULL);
}

/* ---- OpenGL ------------------------------------------------------------------------------------------------- */

static void opengl(void) {
  const PFNEGLQUERYDEVICESEXTPROC query = (PFNEGLQUERYDEVICESEXTPROC)eglGetProcAddress("eglQueryDevicesEXT");
  const PFNEGLGETPLATFORMDISPLAYEXTPROC display_of = (PFNEGLGETPLATFORMDISPLAYEXTPROC)eglGetProcAddress("eglGetPlatformDisplayEXT");
  SKIP_UNLESS(query != NULL && display_of != NULL, "no EGL devices");
  EGLDeviceEXT devices[8];
  EGLint count = 0, configs = 0;
  SKIP_UNLESS(query(8, devices, &count) && count > 0, "no EGL device");
  // A machine may show EGL more GPUs than CUDA, and in another order: the context has to be on CUDA's.
  const PFNEGLQUERYDEVICEATTRIBEXTPROC attribute_of = (PFNEGLQUERYDEVICEATTRIBEXTPROC)eglGetProcAddress("eglQueryDeviceAttribEXT");
  EGLint one = 0;
  for (EGLAttrib cuda = -1; one < count; ++one)
    if (attribute_of != NULL && attribute_of(devices[one], EGL_CUDA_DEVICE_NV, &cuda) && cuda == 0) break;
  SKIP_UNLESS(one < count, "none of EGL's devices is CUDA's first GPU");
  const EGLDisplay display = display_of(EGL_PLATFORM_DEVICE_EXT, devices[one], NULL);
  SKIP_UNLESS(display != EGL_NO_DISPLAY && eglInitialize(display, NULL, NULL), "no EGL display");
  SKIP_UNLESS(strstr(eglQueryString(display, EGL_VENDOR), "NVIDIA") != NULL, "no EGL of NVIDIA's");
  const EGLint wanted[] = {EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_NONE};
  EGLConfig config;
  MUST(eglChooseConfig(display, wanted, &config, 1, &configs) && configs > 0, "no EGL configuration");
  MUST(eglBindAPI(EGL_OPENGL_API), "no OpenGL");
  const EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, NULL);
  MUST(context != EGL_NO_CONTEXT && eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context), "no OpenGL context");

  GLuint buffer, texture;
  glGenBuffers(1, &buffer);
  glBindBuffer(GL_ARRAY_BUFFER, buffer);
  glBufferData(GL_ARRAY_BUFFER, sizeof views, views, GL_DYNAMIC_COPY);
  glGenTextures(1, &texture);
  glBindTexture(GL_TEXTURE_2D, texture);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
  glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, 2 * WIDTH, HEIGHT, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
  MUST(glGetError() == GL_NO_ERROR, "OpenGL refused a buffer or a texture");

  se_gl_resource *rows, *image;
  SE(se_gl_register_buffer(buffer, &rows));
  SE(se_gl_register_texture(texture, GL_TEXTURE_2D, &image));
  MUST(se_gl_data(rows, NULL) == NULL, "a pointer before it is mapped");
  SE(se_gl_map(rows, NULL));
  MUST(se_gl_map(rows, NULL) == SE_ERROR_BAD_PARAMETER, "mapped twice");
  uint64_t bytes = 0;
  char *data = se_gl_data(rows, &bytes);
  MUST(data != NULL && bytes == sizeof views, "a mapped buffer's pointer and size");
  pack(SE_CUDA, data, data + 2 * VIEW);
  const se_array pair = picture(data + 2 * VIEW, 2 * WIDTH);
  MUST(se_gl_write(image, &pair, NULL) == SE_ERROR_BAD_PARAMETER, "written before it is mapped");
  SE(se_gl_map(image, NULL));
  SE(se_gl_write(image, &pair, NULL));
  SE(se_gl_unmap(image, NULL));
  SE(se_gl_unmap(rows, NULL));
  glGetBufferSubData(GL_ARRAY_BUFFER, 0, sizeof got, got);
  MUST(memcmp(got + 2 * VIEW, want, sizeof want) == 0, "OpenGL's buffer has other bytes than the CPU makes");
  memset(got, 0, sizeof got);
  glGetTexImage(GL_TEXTURE_2D, 0, GL_RGBA, GL_UNSIGNED_BYTE, got);
  MUST(glGetError() == GL_NO_ERROR && memcmp(got, want, sizeof want) == 0, "OpenGL's texture has other bytes than the CPU makes");

  glTexSubImage2D(GL_TEXTURE_2D, 0, 0, 0, 2 * WIDTH, HEIGHT, GL_RGBA, GL_UNSIGNED_BYTE, views);
  SE(se_gl_map(image, NULL));
  SE(se_gl_map(rows, NULL));
  const se_array back = picture(se_gl_data(rows, NULL), 2 * WIDTH);
  SE(se_gl_read(image, &back, NULL));
  SE(se_gl_unmap(rows, NULL));
  SE(se_gl_unmap(image, NULL));
  glGetBufferSubData(GL_ARRAY_BUFFER, 0, sizeof got, got);
  MUST(memcmp(got, views, 2 * VIEW) == 0, "a texture is read as other bytes than OpenGL was given");
  se_gl_release(image);
  se_gl_release(rows);
  eglDestroyContext(display, context);
  eglTerminate(display);
}

int main(int argc, char **argv) {
  SKIP_UNLESS(se_cuda_device_count() > 0, "no NVIDIA GPU, or a library without CUDA");
  srand(7);
  for (size_t k = 0; k < 2 * VIEW; ++k) views[k] = (unsigned char)(rand() >> 5);
  pack(SE_CPU, views, want);
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "vulkan") == 0) vulkan();
  else if (strcmp(what, "opengl") == 0) opengl();
  else MUST(0, "interop vulkan|opengl");
  printf("%s: the CPU's bytes\n", what);
  return 0;
}
