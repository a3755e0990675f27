// Runs CUDA kernels on a CPU: the threads of a block are fibres that take turns, and every access can be watched.
//
// A kernel's text is compiled as it is, by any C++17 compiler; `intrinsics.cuh` gives its intrinsics the bodies found here.
// The fibres of a block run one after another in an order that the caller chooses, each until it waits at a barrier or for its
// warp. Two orders that give the same results, with every access to shared memory held against the barriers between, leave
// little room for a race. What goes wrong is counted in `Counters` and said on stderr; nothing is repaired.
//
// Watched where `Machine::watch` is set:
//  - loads and stores of global memory: bytes that threads ask for, requests of warps, and 32-byte sectors that each touches;
//  - shared memory: requests, and passes that they take over 32 banks of 4 bytes (a request wider than 4 bytes a lane is served
//    for 8 or 16 lanes at a time); races, reads of words that nothing wrote, addresses outside the block's memory;
//  - global addresses outside every buffer that the program registered.
// Always: barriers and warp operations that not all threads reach.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace lepton {

constexpr int warp_size = 32;
constexpr int sector_bytes = 32;
constexpr int bank_count = 32;

struct Dim3 {
  unsigned x, y, z;
  Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned count() const { return x * y * z; }
};

enum class Order { forward, reverse, shuffled };

// What was counted, and what went wrong.
struct Counters {
  uint64_t load_bytes = 0, load_requests = 0, load_sectors = 0;
  uint64_t store_bytes = 0, store_requests = 0, store_sectors = 0;
  uint64_t shared_load_requests = 0, shared_load_passes = 0;
  uint64_t shared_store_requests = 0, shared_store_passes = 0;
  uint64_t barriers = 0;
  uint64_t races = 0, unwritten_reads = 0, outside_shared = 0, outside_global = 0, misaligned = 0, divergences = 0;

  uint64_t faults() const { return races + unwritten_reads + outside_shared + outside_global + misaligned + divergences; }
};

// --- fibres ---------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
// Saves what a call preserves on the old stack, and goes on where the new stack was left.
extern "C" void lepton_switch(void** old_stack, void* new_stack);
__asm__(
    ".text\n.p2align 4\n.type lepton_switch,@function\nlepton_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size lepton_switch,.-lepton_switch\n");
#endif

enum class State : uint8_t { ready, at_barrier, at_warp, done };

// One access by one lane, kept until its warp's other lanes have made theirs.
struct Access {
  uint64_t address;
  int line;
  uint8_t bytes;
  bool active, store, shared;
};

struct PendingCopy {
  uint32_t offset;
  uint32_t group;
  uint8_t data[16];
};

struct Lane {
  Dim3 index;
  int number = 0;
  State state = State::ready;
  int line = 0;
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  std::vector<Access> accesses;
  std::vector<PendingCopy> copies;
  uint32_t copy_group = 0;
};

// Where lanes of a warp leave what they bring to a common operation, and find what it gives.
struct Warp {
  int arrived = 0;
  uint32_t epoch = 0;
  alignas(16) uint32_t brought[warp_size][16];
  alignas(16) uint32_t result[warp_size][8];
};

// The last write of a word of shared memory and the reads since; a thread's number, or one of the marks below.
struct Shadow {
  int32_t writer = -1, reader = -1;
  uint32_t write_block = 0, write_warp = 0, read_block = 0, read_warp = 0;
  bool written = false;
};

class Machine {
 public:
  Order order = Order::forward;
  bool watch = false;
  Counters counters;
  Dim3 thread, block, block_extent, grid_extent;

  static Machine& instance() {
    static Machine machine;
    return machine;
  }

  // Memory that kernels may touch; `name` is for messages.
  void register_buffer(const void* start, size_t bytes, const char* name) {
    buffers_.push_back({reinterpret_cast<uint64_t>(start), bytes, name});
  }
  void forget_buffers() { buffers_.clear(); }

  // Runs every block of a grid, one after another.
  template <class Body>
  void launch(Dim3 grid, Dim3 threads, Body body) {
    grid_extent = grid;
    block_extent = threads;
    body_ = body;
    prepare(static_cast<int>(threads.count()));
    for (block.z = 0; block.z < grid.z; ++block.z)
      for (block.y = 0; block.y < grid.y; ++block.y)
        for (block.x = 0; block.x < grid.x; ++block.x) run_block();
    body_ = nullptr;
  }

  // --- called by the running fibre ----------------------------------------------------------------------------------

  uint8_t* shared_memory(size_t bytes) {
    if (bytes > shared_bytes_) shared_bytes_ = bytes;
    if (shared_bytes_ > shared_.size()) fault(counters.outside_shared, "more shared memory than the harness has", 0);
    return shared_.data();
  }

  void barrier(int line) {
    Lane& lane = *current_;
    lane.state = State::at_barrier;
    lane.line = line;
    if (++at_barrier_ == lanes_in_block_) {
      bool same = true;
      for (int index = 0; index < lanes_in_block_; ++index) same = same && lanes_[index].line == line;
      if (!same) fault(counters.divergences, "threads of a block wait at different barriers", line);
      open_barrier();
      ++counters.barriers;
    }
    if (lane.state != State::ready) yield();
  }

  // Meets the other lanes of the warp; the last one to come does `work`.
  template <class Work>
  Warp& meet(int line, Work work) {
    Lane& lane = *current_;
    Warp& warp = warps_[lane.number / warp_size];
    lane.line = line;
    if (++warp.arrived == lanes_of_warp(lane.number / warp_size)) {
      const int first = lane.number / warp_size * warp_size;
      for (int index = first; index < first + warp.arrived; ++index) {
        if (lanes_[index].line != line) fault(counters.divergences, "lanes of a warp are at different operations", line);
        lanes_[index].state = State::ready;
      }
      warp.arrived = 0;
      ++warp.epoch;
      work(warp);
    } else {
      lane.state = State::at_warp;
      yield();
    }
    return warp;
  }

  int lane_number() const { return current_->number % warp_size; }
  Warp& warp() { return warps_[current_->number / warp_size]; }

  // Notes an access to global memory; false where it may not be made.
  bool touch_global(const void* pointer, size_t bytes, bool active, bool store, int line) {
    const uint64_t address = reinterpret_cast<uint64_t>(pointer);
    if (active) {
      if (address % bytes)
        active = fault(counters.misaligned, "an address that is no multiple of the access's width", line);
      else if (!inside(address, bytes))
        active = fault(counters.outside_global, "an address outside every buffer", line);
    }
    current_->accesses.push_back({address, line, static_cast<uint8_t>(bytes), active, store, false});
    return active;
  }

  // The same for shared memory.
  bool touch_shared(size_t offset, size_t bytes, bool active, bool store, int line) {
    if (active) {
      if (offset % bytes || bytes % 4)
        active = fault(counters.misaligned, "a shared address that is no multiple of the width", line);
      else if (offset + bytes > shared_bytes_)
        active = fault(counters.outside_shared, "an address outside shared memory", line);
      else
        shade(offset, bytes, store, line);
    }
    current_->accesses.push_back({offset, line, static_cast<uint8_t>(bytes), active, store, true});
    return active;
  }

  // An asynchronous copy of 16 bytes: they arrive when the thread waits for their group.
  void copy_later(size_t offset, const void* source, bool readable, bool active, int line) {
    PendingCopy copy{static_cast<uint32_t>(offset), current_->copy_group, {}};
    if (watch) {
      readable = touch_global(source, 16, readable && active, false, line);
      active = touch_shared(offset, 16, active, true, line);
    }
    if (!active) return;
    if (watch) std::memset(shared_.data() + offset, 0xA5, 16);
    if (readable) std::memcpy(copy.data, source, 16);
    current_->copies.push_back(copy);
  }
  void commit_copies() { ++current_->copy_group; }
  void await_copies(uint32_t groups_left, int line) {
    auto& copies = current_->copies;
    size_t kept = 0;
    for (const PendingCopy& copy : copies) {
      if (copy.group + groups_left >= current_->copy_group) {
        copies[kept++] = copy;
        continue;
      }
      if (watch) shade(copy.offset, 16, true, line);
      std::memcpy(shared_.data() + copy.offset, copy.data, 16);
    }
    copies.resize(kept);
  }

  bool fault(uint64_t& counter, const char* what, int line) {
    if (counter++ == 0)
      std::fprintf(stderr, "fault: %s; line %d, block %u %u %u, thread %d\n", what, line, block.x, block.y, block.z,
                   current_ ? current_->number : -1);
    return false;
  }

 private:
  struct Buffer {
    uint64_t start;
    uint64_t bytes;
    const char* name;
  };
  static constexpr size_t stack_bytes = 64 << 10;
  static constexpr int several = 1 << 20;  // readers of one warp, added to its number
  static constexpr int anyone = 1 << 21;   // readers of several warps

  std::function<void()> body_;
  std::vector<Lane> lanes_;
  std::vector<Warp> warps_;
  std::vector<int> turn_;
  std::vector<Buffer> buffers_;
  std::vector<uint8_t> shared_ = std::vector<uint8_t>(256 << 10);
  std::vector<Shadow> shadows_;
  uint8_t* stacks_ = nullptr;
  size_t stack_count_ = 0;
  size_t shared_bytes_ = 0;
  uint32_t block_epoch_ = 0;
  int lanes_in_block_ = 0, at_barrier_ = 0, finished_ = 0, place_ = 0;
  Lane* current_ = nullptr;
#if defined(__x86_64__)
  void* main_stack_ = nullptr;
#else
  ucontext_t main_context_;
#endif

  Machine() = default;

  int lanes_of_warp(int warp) const { return std::min(warp_size, lanes_in_block_ - warp * warp_size); }

  bool inside(uint64_t address, uint64_t bytes) const {
    for (const Buffer& buffer : buffers_)
      if (address >= buffer.start && address + bytes <= buffer.start + buffer.bytes) return true;
    return false;
  }

  void prepare(int count) {
    lanes_in_block_ = count;
    lanes_.resize(count);
    warps_.resize((count + warp_size - 1) / warp_size);
    turn_.resize(count);
    for (int index = 0; index < count; ++index) {
      Lane& lane = lanes_[index];
      lane.number = index;
      lane.index = Dim3(index % block_extent.x, index / block_extent.x % block_extent.y, index / block_extent.x / block_extent.y);
      turn_[index] = order == Order::reverse ? count - 1 - index : index;
    }
    if (order == Order::shuffled) {
      uint32_t random = 12345;
      for (int index = count - 1; index > 0; --index) {
        random = random * 1664525u + 1013904223u;
        std::swap(turn_[index], turn_[(random >> 8) % (index + 1)]);
      }
    }
    if (static_cast<size_t>(count) > stack_count_) {
      if (stacks_) munmap(stacks_, stack_count_ * stack_bytes);
      stack_count_ = count;
      void* made = mmap(nullptr, stack_count_ * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (made == MAP_FAILED) {
        std::fprintf(stderr, "no memory for the stacks of %d threads\n", count);
        std::exit(3);
      }
      stacks_ = static_cast<uint8_t*>(made);
    }
  }

  static void enter() {
    Machine& machine = instance();
    machine.body_();
    Lane& lane = *machine.current_;
    lane.state = State::done;
    lane.line = 0;
    ++machine.finished_;
    machine.yield();
  }

  void start(Lane& lane) {
    uint8_t* top = stacks_ + (lane.number + 1) * stack_bytes;
#if defined(__x86_64__)
    void** stack = reinterpret_cast<void**>(top) - 2;  // aligned as after a call
    *stack = reinterpret_cast<void*>(&Machine::enter);
    lane.stack_pointer = stack - 6;
#else
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = top - stack_bytes;
    lane.context.uc_stack.ss_size = stack_bytes;
    lane.context.uc_link = nullptr;
    makecontext(&lane.context, &Machine::enter, 0);
#endif
  }

  void go_to(Lane* next) {
    Lane* from = current_;
    current_ = next;
    if (next) thread = next->index;
#if defined(__x86_64__)
    lepton_switch(from ? &from->stack_pointer : &main_stack_, next ? next->stack_pointer : main_stack_);
#else
    swapcontext(from ? &from->context : &main_context_, next ? &next->context : &main_context_);
#endif
  }

  // Gives the turn to the next thread that can go on, or back to the block where none can.
  void yield() {
    for (int tried = 0; tried < lanes_in_block_; ++tried) {
      if (++place_ >= lanes_in_block_) place_ = 0;
      Lane& next = lanes_[turn_[place_]];
      if (next.state == State::ready) {
        if (&next != current_) go_to(&next);
        return;
      }
    }
    go_to(nullptr);
  }

  void open_barrier() {
    at_barrier_ = 0;
    ++block_epoch_;
    for (int index = 0; index < lanes_in_block_; ++index)
      if (lanes_[index].state == State::at_barrier) lanes_[index].state = State::ready;
    if (watch) fold();
  }

  void run_block() {
    at_barrier_ = finished_ = 0;
    shared_bytes_ = 0;
    block_epoch_ = 0;
    if (watch) {
      std::memset(shared_.data(), 0xCD, shared_.size());
      shadows_.assign(shared_.size() / 4, Shadow());
    }
    for (Lane& lane : lanes_) {
      lane.state = State::ready;
      lane.accesses.clear();
      lane.copies.clear();
      lane.copy_group = 0;
      start(lane);
    }
    for (Warp& warp : warps_) warp.arrived = 0, warp.epoch = 0;
    while (finished_ < lanes_in_block_) {
      place_ = lanes_in_block_ - 1;
      for (int index = 0; index < lanes_in_block_; ++index) {
        if (lanes_[turn_[index]].state == State::ready) {
          place_ = index;
          go_to(&lanes_[turn_[index]]);
          break;
        }
      }
      if (finished_ < lanes_in_block_) {
        // Nobody can go on: some threads ended, or wait elsewhere. Let those at a barrier pass, so that the run ends.
        fault(counters.divergences, "not all threads reach a barrier or an operation of their warp", waiting_line());
        for (Warp& warp : warps_) warp.arrived = 0;
        for (Lane& lane : lanes_)
          if (lane.state == State::at_warp) lane.state = State::ready;
        open_barrier();
      }
    }
    if (watch) fold();
    for (const Lane& lane : lanes_)
      if (!lane.copies.empty()) fault(counters.races, "asynchronous copies that nothing waited for", 0);
  }

  int waiting_line() const {
    for (const Lane& lane : lanes_)
      if (lane.state != State::done) return lane.line;
    return 0;
  }

  // Holds an access to shared memory against earlier ones that no barrier separates from it.
  void shade(size_t offset, size_t bytes, bool store, int line) {
    const int me = current_->number, my_warp = me / warp_size;
    const uint32_t epoch = warps_[my_warp].epoch;
    for (size_t word = offset / 4; word < (offset + bytes) / 4; ++word) {
      Shadow& shadow = shadows_[word];
      const bool other_wrote = shadow.written && shadow.writer != me && shadow.write_block == block_epoch_ &&
                               (shadow.writer / warp_size != my_warp || shadow.write_warp == epoch);
      if (other_wrote) fault(counters.races, store ? "two threads write a word" : "a read beside a write", line);
      if (store) {
        if (shadow.reader >= 0 && shadow.read_block == block_epoch_) {
          const int reader = shadow.reader;
          const bool same_warp = reader < several ? reader / warp_size == my_warp : reader - several == my_warp;
          if (reader != me && (!same_warp || shadow.read_warp == epoch)) fault(counters.races, "a write beside a read", line);
        }
        shadow.writer = me;
        shadow.write_block = block_epoch_;
        shadow.write_warp = epoch;
        shadow.written = true;
        shadow.reader = -1;
      } else {
        if (!shadow.written) fault(counters.unwritten_reads, "a read of shared memory that nothing wrote", line);
        if (shadow.reader < 0 || shadow.read_block != block_epoch_) {
          shadow.reader = me;
        } else if (shadow.reader != me) {
          const int warp = shadow.reader < several ? shadow.reader / warp_size : shadow.reader - several;
          shadow.reader = warp == my_warp ? several + my_warp : anyone;
        }
        shadow.read_block = block_epoch_;
        shadow.read_warp = epoch;
      }
    }
  }

  // Joins what the lanes of each warp did into requests. Every lane of a warp makes the same accesses, some of them inactive.
  void fold() {
    for (size_t warp = 0; warp < warps_.size(); ++warp) {
      const int first = static_cast<int>(warp) * warp_size, count = lanes_of_warp(static_cast<int>(warp));
      const size_t requests = lanes_[first].accesses.size();
      for (int lane = 1; lane < count; ++lane)
        if (lanes_[first + lane].accesses.size() != requests) {
          fault(counters.divergences, "lanes of a warp make different numbers of accesses", 0);
          break;
        }
      for (size_t index = 0; index < requests; ++index) request(first, count, index);
      for (int lane = 0; lane < count; ++lane) lanes_[first + lane].accesses.clear();
    }
  }

  void request(int first, int count, size_t index) {
    const Access& head = lanes_[first].accesses[index];
    uint64_t addresses[warp_size];
    int active = 0;
    for (int lane = 0; lane < count; ++lane) {
      const auto& accesses = lanes_[first + lane].accesses;
      if (index >= accesses.size()) continue;
      const Access& access = accesses[index];
      if (access.line != head.line || access.shared != head.shared || access.store != head.store || access.bytes != head.bytes)
        fault(counters.divergences, "lanes of a warp make different accesses", access.line);
      if (access.active) addresses[active++] = access.address;
    }
    if (!active) return;
    if (head.shared) {
      const uint64_t passes = passes_of(addresses, active, head.bytes);
      (head.store ? counters.shared_store_requests : counters.shared_load_requests) += 1;
      (head.store ? counters.shared_store_passes : counters.shared_load_passes) += passes;
      return;
    }
    std::vector<uint64_t> sectors;
    for (int lane = 0; lane < active; ++lane) sectors.push_back(addresses[lane] / sector_bytes);
    std::sort(sectors.begin(), sectors.end());
    const uint64_t distinct = std::unique(sectors.begin(), sectors.end()) - sectors.begin();
    (head.store ? counters.store_requests : counters.load_requests) += 1;
    (head.store ? counters.store_bytes : counters.load_bytes) += static_cast<uint64_t>(active) * head.bytes;
    (head.store ? counters.store_sectors : counters.load_sectors) += distinct;
  }

  static uint64_t passes_of(const uint64_t* addresses, int count, int bytes) {
    const int words = bytes / 4, group = warp_size / words;
    uint64_t passes = 0;
    for (int begin = 0; begin < count; begin += group) {
      std::vector<uint64_t> touched;
      for (int lane = begin; lane < std::min(begin + group, count); ++lane)
        for (int word = 0; word < words; ++word) touched.push_back(addresses[lane] / 4 + word);
      std::sort(touched.begin(), touched.end());
      touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
      int in_bank[bank_count] = {};
      int most = 0;
      for (uint64_t word : touched) most = std::max(most, ++in_bank[word % bank_count]);
      passes += most;
    }
    return passes;
  }
};

}  // namespace lepton
