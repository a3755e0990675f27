"""How an artefact's runner times kernels on a GPU, run on a CUDA runtime that is played: a device and a host with clocks.

Kernels take known times. Each launch costs the host more than the shortest kernel takes, the first launch of a kernel loads it,
the device begins at half its clock, and every fourth recording is disturbed: none of this may be in a time.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lepton_dse.emit.cuda.emitter import library
from lepton_dse.verify.cuda.device import kernel_times

LAUNCH = "launch.kernel<<<grid, launch.threads, 0, stream_>>>(constants, arena);"
KERNELS = {"short": 2.0, "middle": 300.0, "long": 30000.0}
"""Microseconds of each at the full clock."""
PLAYED = """
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <vector>

using Played = void (*)(const unsigned char*, unsigned char*);
struct dim3 { unsigned x, y, z; dim3(unsigned a, unsigned b, unsigned c) : x(a), y(b), z(c) {} };
enum cudaError_t { cudaSuccess };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
struct PlayedEvent { double at = -1; };
struct PlayedGraph { std::vector<Played> kernels; };
using cudaStream_t = int*;
using cudaEvent_t = PlayedEvent*;
using cudaGraph_t = PlayedGraph*;
using cudaGraphExec_t = PlayedGraph*;

struct World {  // times in microseconds
  double host = 0, device = 0, busy = 0;
  long graphs = 0, live = 0;
  bool capturing = false;
  std::map<Played, double> costs;
  std::set<Played> loaded;
  std::vector<Played> captured, order;
  void execute(Played kernel, double factor) {
    if (loaded.insert(kernel).second) host += 50000;
    device = std::max(device, host);
    const double time = costs[kernel] * factor * (busy < 10000 ? 2 : 1);
    device += time, busy += time;
    if (order.empty() || order.back() != kernel) order.push_back(kernel);
  }
};
inline World world;

inline const char* cudaGetErrorString(cudaError_t) { return "none"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) { *stream = new int; return ++world.live, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { delete stream; return --world.live, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { world.host = std::max(world.host, world.device); return cudaSuccess; }
inline cudaError_t cudaMalloc(void** found, size_t bytes) { *found = new unsigned char[bytes]; return cudaSuccess; }
inline cudaError_t cudaFree(void* memory) { delete[] static_cast<unsigned char*>(memory); return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { *event = new PlayedEvent; return ++world.live, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { delete event; return --world.live, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  world.host += 1;
  event->at = std::max(world.device, world.host);
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) { world.host = std::max(world.host, event->at); return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* passed, cudaEvent_t begin, cudaEvent_t end) {
  *passed = static_cast<float>((end->at - begin->at) * 1e-3);
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { world.capturing = true; return cudaSuccess; }
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = new PlayedGraph{world.captured};
  world.captured.clear();
  world.capturing = false;
  return ++world.live, cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* found, cudaGraph_t graph, unsigned long long) {
  *found = new PlayedGraph(*graph);
  return ++world.live, cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return --world.live, cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { delete graph; return --world.live, cudaSuccess; }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  world.host += 20;
  const double factor = world.graphs++ % 4 == 3 ? 10 : 1;
  for (Played kernel : graph->kernels) world.execute(kernel, factor);
  return cudaSuccess;
}
inline void launched(Played kernel, const dim3&, const unsigned char*, unsigned char*) {
  if (world.capturing) return world.captured.push_back(kernel);
  world.host += 5;
  world.execute(kernel, 1);
}
"""
MAIN = """
#define __CUDACC__
#include "runtime.cuh"
template <int number>
void kernel(const unsigned char*, unsigned char* arena) { arena[0] = number; }
struct Model { lepton::Device device; unsigned char *constants = nullptr, *arena = nullptr; };
int main() {
  const lepton::Launch launches[] = {LAUNCHES};
  COSTS
  {
    Model model;
    lepton::begin_test(model, nullptr, 0, "FORWARD", "RUN");
    if (!lepton::timing(model)) return 3;
    model.device.run(launches, COUNT, model.constants, model.arena);
    if (lepton::timing(model)) return 4;
    lepton::report(model, launches, COUNT);
    if (world.order.size() != COUNT) return 5;
    world.order.clear();
    model.device.run(launches, COUNT, model.constants, model.arena);
    model.device.synchronize();
    if (world.order.size() != COUNT) return 6;
    for (int index = 0; index < COUNT; ++index)
      if (world.order[index] != launches[index].kernel) return 7;
    Model dumped;
    lepton::begin_test(dumped, nullptr, 0, "FORWARD", "DUMP");
    if (lepton::timing(dumped)) return 8;
    lepton::report(dumped, launches, COUNT);
  }
  return world.live ? 9 : 0;
}
"""


@pytest.mark.parametrize("names", [("short",), ("long", "short", "middle"), ("short", "middle", "long")])
def test_times_are_those_of_the_kernels_alone(names: tuple[str, ...], tmp_path: Path, cxx: str) -> None:
    runtime = library()["lepton/runtime.cuh"].decode()
    assert runtime.count(LAUNCH) == 1
    (tmp_path / "runtime.cuh").write_text(runtime.replace(LAUNCH, "launched(launch.kernel, grid, constants, arena);"))
    (tmp_path / "intrinsics.cuh").write_text(PLAYED)
    launches = ", ".join(f'{{"{name}", kernel<{index}>, {{1, 1, 1}}, 32}}' for index, name in enumerate(names))
    costs = " ".join(f"world.costs[kernel<{index}>] = {KERNELS[name]};" for index, name in enumerate(names))
    text = MAIN.replace("LAUNCHES", launches).replace("COSTS", costs).replace("COUNT", str(len(names)))
    (tmp_path / "main.cc").write_text(text)
    command = [cxx, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "main.cc", "-o", "main"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    found = kernel_times(done.stdout, names)
    assert found == pytest.approx([KERNELS[name] * 1e-3 for name in names], rel=1e-3)
