// SPDX-License-Identifier: Apache-2.0
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "core/system.h"

namespace se {
namespace {

// To wake a sleeping thread takes as long as a small picture does: who has nothing to do looks out for this long first.
constexpr std::chrono::microseconds kLookOut{50};

template <typename Done>
void look_out(const Done& done) {
  const auto until = std::chrono::steady_clock::now() + kLookOut;
  while (!done() && std::chrono::steady_clock::now() < until) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }
}

struct Job {
  RowsFn fn;
  const void* args;
  int32_t rows, grain;
  int32_t seats;                 // workers that may still join; guarded by Pool::mutex
  std::atomic<int32_t> busy{0};  // workers inside; changed under Pool::mutex
  std::atomic<int32_t> next{0};
  Job* after = nullptr;

  void run() {
    for (;;) {
      const int32_t y0 = next.fetch_add(grain, std::memory_order_relaxed);
      if (y0 >= rows) return;
      fn(args, y0, std::min(rows, y0 + grain));
    }
  }
};

class Pool {
 public:
  void run(int32_t helpers, Job& job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      job.seats = std::min(helpers, workers_);
      job.after = head_;
      head_ = &job;
      posted_.fetch_add(1, std::memory_order_relaxed);
    }
    wake_.notify_all();
    job.run();
    std::unique_lock<std::mutex> lock(mutex_);
    for (Job** link = &head_; *link != nullptr; link = &(*link)->after) {
      if (*link == &job) {
        *link = job.after;
        break;
      }
    }
    const auto done = [&] { return job.busy.load(std::memory_order_acquire) == 0; };
    if (!done() && several_) {
      lock.unlock();
      look_out(done);
      if (done()) return;
      lock.lock();
    }
    done_.wait(lock, done);
  }

 private:
  void grow(int32_t wanted) {
    while (workers_ < wanted) {
      try {
        std::thread([this] { work(); }).detach();
      } catch (const std::system_error&) {
        return;  // fewer threads, same result
      }
      ++workers_;
    }
  }

  [[noreturn]] void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Job* job = head_;
      while (job != nullptr && job->seats == 0) job = job->after;
      if (job == nullptr) {
        const uint32_t seen = posted_.load(std::memory_order_relaxed);
        const auto more = [&] { return posted_.load(std::memory_order_relaxed) != seen; };
        if (several_) {
          lock.unlock();
          look_out(more);
          lock.lock();
        }
        if (!more()) wake_.wait(lock, more);
        continue;
      }
      --job->seats;
      job->busy.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      job->run();
      lock.lock();
      // The job may be gone as soon as nobody is inside.
      if (job->busy.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* head_ = nullptr;
  int32_t workers_ = 0;
  std::atomic<uint32_t> posted_{0};  // jobs so far; changed under the mutex
  const bool several_ = cpu_count() > 1;
};

// Leaked on purpose: the workers outlive static destruction. A forked child has none of them, so it starts anew.
std::atomic<Pool*> g_pool{nullptr};
std::mutex g_pool_mutex;

Pool* pool() {
  Pool* p = g_pool.load(std::memory_order_acquire);
  if (p != nullptr) return p;
  std::lock_guard<std::mutex> lock(g_pool_mutex);
  p = g_pool.load(std::memory_order_relaxed);
  if (p == nullptr) {
    p = new (std::nothrow) Pool;
    static std::once_flag once;
    std::call_once(once, [] {
      stay_loaded();  // the workers wait in its code
      at_fork([] { g_pool_mutex.lock(); }, [] { g_pool_mutex.unlock(); },
              [] {
                g_pool.store(nullptr, std::memory_order_relaxed);
                g_pool_mutex.unlock();
              });
    });
    g_pool.store(p, std::memory_order_release);
  }
  return p;
}

struct Scratch {
  void* data = nullptr;
  int64_t size = 0;
  ~Scratch() { free_aligned(data); }
};

}  // namespace

void* thread_scratch(int64_t bytes, int32_t slot) {
  auto* const slots = static_cast<Scratch*>(of_thread([]() -> void* { return new (std::nothrow) Scratch[2]; },
                                                      [](void* ended) { delete[] static_cast<Scratch*>(ended); }));
  if (slots == nullptr) return nullptr;
  Scratch& scratch = slots[slot];
  if (scratch.size < bytes) {
    const int64_t rounded = (bytes + 4095) / 4096 * 4096;
    void* fresh = aligned_memory(static_cast<std::size_t>(rounded));
    if (fresh == nullptr) return nullptr;
    free_aligned(scratch.data);
    scratch.data = fresh;
    scratch.size = rounded;
  }
  return scratch.data;
}

void parallel_rows(int32_t threads, int32_t rows, int32_t grain, RowsFn fn, const void* args) {
  if (rows <= 0) return;
  grain = std::max(1, grain);
  if (threads <= 0) threads = cpu_count();
  threads = std::min(threads, (rows + grain - 1) / grain);
  Pool* p = threads > 1 ? pool() : nullptr;
  if (p == nullptr) {
    fn(args, 0, rows);
    return;
  }
  Job job;
  job.fn = fn;
  job.args = args;
  job.rows = rows;
  job.grain = grain;
  p->run(threads - 1, job);
}

}  // namespace se
