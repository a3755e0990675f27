// Memory and launches of a model: on a GPU by the CUDA runtime, as one graph; on a CPU by fibres, each launch counted.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "intrinsics.cuh"

namespace lepton {

using Kernel = void (*)(const unsigned char*, unsigned char*);

// A stored tensor: its name, and where it lies in the arena.
struct Stored {
  const char* name;
  size_t offset, bytes;
};

inline bool read_file(const char* path, std::vector<unsigned char>& data) {
  FILE* file = std::fopen(path, "rb");
  if (!file) return false;
  const bool whole = std::fread(data.data(), 1, data.size(), file) == data.size();
  std::fclose(file);
  return whole;
}

inline FILE* opened(const char* path, const char* mode) {
  FILE* file = std::fopen(path, mode);
  if (!file) {
    std::fprintf(stderr, "cannot open %s\n", path);
    std::exit(2);
  }
  return file;
}

struct Launch {
  const char* name;
  Kernel kernel;
  unsigned grid[3];
  unsigned threads;
};

#if defined(__CUDACC__)

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(3);
}

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  // Milliseconds since an earlier event, once this one has come.
  float since(const Event& begin) const {
    float passed = 0;
    check(cudaEventSynchronize(event_), "cudaEventSynchronize");
    check(cudaEventElapsedTime(&passed, begin.event_, event_), "cudaEventElapsedTime");
    return passed;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class Device {
 public:
  std::vector<float> milliseconds;  // of each launch of a timed run

  unsigned char* allocate(size_t bytes) {
    void* found = nullptr;
    check(cudaMalloc(&found, bytes ? bytes : 1), "cudaMalloc");
    return static_cast<unsigned char*>(found);
  }
  void release(unsigned char* memory) { cudaFree(memory); }
  void upload(unsigned char* to, const void* from, size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
  }
  void download(void* to, const unsigned char* from, size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
    synchronize();
  }
  void synchronize() { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }
  void time_next_run() { timed_ = true; }
  bool timing() const { return timed_; }
  // The first run records a graph, which every run launches. A timed run repeats each kernel in its turn: what a kernel reads is
  // then there, and it writes the same again.
  void run(const Launch* launches, size_t count, const unsigned char* constants, unsigned char* arena) {
    if (timed_) {
      milliseconds.clear();
      for (size_t index = 0; index < count; ++index) milliseconds.push_back(time(launches[index], constants, arena));
      timed_ = false;
      return;
    }
    if (!graph_) graph_ = recorded(launches, count, 1, constants, arena);
    check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
  }
  Device() { check(cudaStreamCreate(&stream_), "cudaStreamCreate"); }
  ~Device() {
    if (graph_) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream_);
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  bool timed_ = false;

  void enqueue(const Launch& launch, const unsigned char* constants, unsigned char* arena) {
    const dim3 grid(launch.grid[0], launch.grid[1], launch.grid[2]);
    launch.kernel<<<grid, launch.threads, 0, stream_>>>(constants, arena);
    check(cudaGetLastError(), launch.name);
  }
  // Launches as a graph, all of them so many times.
  cudaGraphExec_t recorded(const Launch* launches, size_t count, int times, const unsigned char* constants, unsigned char* arena) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t found = nullptr;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    for (int turn = 0; turn < times; ++turn)
      for (size_t index = 0; index < count; ++index) enqueue(launches[index], constants, arena);
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&found, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
    return found;
  }
  // Milliseconds of one launch: the median of several runs of a graph, each of as many launches as take about two milliseconds,
  // after launches that load the kernel and bring the clock up. Graphs follow one another without a gap, so that what the host
  // takes to launch one is in the first interval alone, which does not count.
  float time(const Launch& launch, const unsigned char* constants, unsigned char* arena) {
    constexpr int runs = 11, most = 64;
    constexpr float warm_up = 20, of_run = 2;  // milliseconds
    Event events[runs + 2];
    enqueue(launch, constants, arena);
    synchronize();
    float passed = 0;
    int launched = 0;
    events[0].record(stream_);
    for (int batch = 1; passed < warm_up; batch *= 2) {
      for (int index = 0; index < batch; ++index) enqueue(launch, constants, arena);
      events[1].record(stream_);
      passed = events[1].since(events[0]);
      launched += batch;
    }
    const int times = std::max(1, std::min(most, static_cast<int>(of_run * launched / passed)));
    const cudaGraphExec_t graph = recorded(&launch, 1, times, constants, arena);
    events[0].record(stream_);
    for (int index = 1; index < runs + 2; ++index) {
      check(cudaGraphLaunch(graph, stream_), "cudaGraphLaunch");
      events[index].record(stream_);
    }
    float found[runs];
    for (int index = 0; index < runs; ++index) found[index] = events[index + 2].since(events[index + 1]);
    cudaGraphExecDestroy(graph);
    std::sort(found, found + runs);
    return found[runs / 2] / times;
  }
};

#else

class Device {
 public:
  std::vector<Counters> counted;  // of each launch of the last run

  unsigned char* allocate(size_t bytes) { return static_cast<unsigned char*>(std::aligned_alloc(256, (bytes + 511) / 256 * 256)); }
  void release(unsigned char* memory) { std::free(memory); }
  void upload(unsigned char* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
  void download(void* to, const unsigned char* from, size_t bytes) { std::memcpy(to, from, bytes); }
  void synchronize() {}
  void run(const Launch* launches, size_t count, const unsigned char* constants, unsigned char* arena) {
    Machine& machine = Machine::instance();
    counted.clear();
    for (size_t index = 0; index < count; ++index) {
      const Launch& launch = launches[index];
      machine.counters = Counters();
      machine.launch(Dim3(launch.grid[0], launch.grid[1], launch.grid[2]), Dim3(launch.threads),
                     [&] { launch.kernel(constants, arena); });
      counted.push_back(machine.counters);
    }
  }
};

#endif

// --- what the test program needs ------------------------------------------------------------------------------------

template <class Model>
void dump(Model& model, const Stored* buffers, size_t count, FILE* file) {
  for (size_t index = 0; index < count; ++index) {
    std::vector<unsigned char> data(buffers[index].bytes);
    model.device.download(data.data(), model.arena + buffers[index].offset, data.size());
    std::fwrite(data.data(), 1, data.size(), file);
  }
}

#if defined(__CUDACC__)

template <class Model>
void begin_test(Model& model, const Stored*, size_t, const char*, const char* how) {
  if (*how == 'R') model.device.time_next_run();
}

template <class Model>
bool timing(const Model& model) {
  return model.device.timing();
}

template <class Model>
void report(Model& model, const Launch* launches, size_t) {
  for (size_t index = 0; index < model.device.milliseconds.size(); ++index)
    std::printf("{\"kernel\": \"%s\", \"milliseconds\": %.6f}\n", launches[index].name, model.device.milliseconds[index]);
}

#else

template <class Model>
void begin_test(Model& model, const Stored* buffers, size_t count, const char* order, const char* how) {
  Machine& machine = Machine::instance();
  machine.order = *order == 'R' ? Order::reverse : *order == 'S' ? Order::shuffled : Order::forward;
  machine.watch = *how == 'W';
  machine.register_buffer(model.constants, Model::constants_bytes, "constants");
  for (size_t index = 0; index < count; ++index)
    machine.register_buffer(model.arena + buffers[index].offset, buffers[index].bytes, buffers[index].name);
}

template <class Model>
bool timing(const Model&) {
  return false;
}

template <class Model>
void report(Model& model, const Launch* launches, size_t count) {
  const auto number = [](const char* name, uint64_t value) {
    std::printf(", \"%s\": %llu", name, static_cast<unsigned long long>(value));
  };
  for (size_t index = 0; index < count; ++index) {
    const Counters& c = model.device.counted[index];
    std::printf("{\"kernel\": \"%s\"", launches[index].name);
    number("load_requests", c.load_requests), number("load_bytes", c.load_bytes), number("load_sectors", c.load_sectors);
    number("store_requests", c.store_requests), number("store_bytes", c.store_bytes), number("store_sectors", c.store_sectors);
    number("shared_loads", c.shared_load_requests), number("shared_load_passes", c.shared_load_passes);
    number("shared_stores", c.shared_store_requests), number("shared_store_passes", c.shared_store_passes);
    number("barriers", c.barriers), number("races", c.races), number("unwritten_reads", c.unwritten_reads);
    number("outside_shared", c.outside_shared), number("outside_global", c.outside_global);
    number("misaligned", c.misaligned), number("divergences", c.divergences);
    std::printf("}\n");
  }
}

#endif

}  // namespace lepton
