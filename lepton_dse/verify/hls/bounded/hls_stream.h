// Streams that hold no more words than their pragma says, for processes that run side by side: a stand-in for hls_stream.h.
//
// Each process of the design is a fibre; one that finds a stream empty or full lets the others go on. Where none can go on, the
// design is stuck, and so is the hardware: whether a network of processes gets stuck does not depend on their timing. What passes
// each stream is recorded in the file that the environment variable LEPTON_RECORD names.
#ifndef LEPTON_BOUNDED_STREAM_H
#define LEPTON_BOUNDED_STREAM_H

#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lepton_bounded {

const int kStuck = 3;      // exit code
const int kPatience = 16;  // rounds without a transfer; a sliding window takes some to settle
const std::size_t kStack = static_cast<std::size_t>(1) << 28;  // address space of a fibre; memory is taken as it is touched

struct Fibre {
    ucontext_t context;
    void* stack;
    std::function<void()> body;
    bool done;
};

struct State {
    std::vector<std::unique_ptr<Fibre> > fibres;
    ucontext_t scheduler;
    Fibre* current = nullptr;
    bool progress = false;
    std::map<std::string, std::size_t> depths;
    std::string stuck_at;
    std::FILE* record = nullptr;
};

inline State& state() {
    static State only;
    return only;
}

inline void enter() {
    Fibre* fibre = state().current;
    fibre->body();
    fibre->done = true;
    state().progress = true;
    swapcontext(&fibre->context, &state().scheduler);
}

// A process of the design; runs when all are there.
inline void process(const std::function<void()>& body) {
    std::unique_ptr<Fibre> fibre(new Fibre);
    fibre->body = body;
    fibre->done = false;
    fibre->stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fibre->stack == MAP_FAILED || getcontext(&fibre->context) != 0) std::exit(4);
    fibre->context.uc_stack.ss_sp = fibre->stack;
    fibre->context.uc_stack.ss_size = kStack;
    fibre->context.uc_link = nullptr;
    makecontext(&fibre->context, enter, 0);
    state().fibres.push_back(std::move(fibre));
}

// Runs all processes in turn until each has ended.
inline void run() {
    State& all = state();
    int idle = 0;
    for (bool live = true; live;) {
        live = false;
        all.progress = false;
        for (std::size_t index = 0; index < all.fibres.size(); ++index) {
            Fibre* fibre = all.fibres[index].get();
            if (fibre->done) continue;
            live = true;
            all.current = fibre;
            swapcontext(&all.scheduler, &fibre->context);
            all.current = nullptr;
        }
        idle = all.progress ? 0 : idle + 1;
        if (live && idle > kPatience) {
            std::printf("stuck at %s\n", all.stuck_at.c_str());
            std::fflush(stdout);
            std::_Exit(kStuck);
        }
    }
    for (std::size_t index = 0; index < all.fibres.size(); ++index) munmap(all.fibres[index]->stack, kStack);
    all.fibres.clear();
}

inline void wait() { swapcontext(&state().current->context, &state().scheduler); }

inline void record(const std::string& name, const std::string& word) {
    static const char* const path = std::getenv("LEPTON_RECORD");
    if (path == nullptr) return;
    if (state().record == nullptr) state().record = std::fopen(path, "w");
    if (state().record != nullptr) std::fprintf(state().record, "%s %s\n", name.c_str(), word.c_str());
}

template <class Word>
std::string digits(const Word& word) {
    std::string text;
    for (int low = 0; low < Word::width; low += 4) {
        const int high = (low + 3 < Word::width) ? low + 3 : Word::width - 1;
        text += "0123456789abcdef"[word.range(high, low).to_uint()];
    }
    return std::string(text.rbegin(), text.rend());
}

}  // namespace lepton_bounded

namespace hls {

template <class Word>
class stream {
  public:
    explicit stream(const char* name) : name_(name), depth_(0) {
        const std::map<std::string, std::size_t>& depths = lepton_bounded::state().depths;
        const std::map<std::string, std::size_t>::const_iterator found = depths.find(name_);
        if (found != depths.end()) depth_ = found->second;  // elsewhere it has no end: it is the bench's
    }

    bool empty() {
        if (words_.empty()) yielded(" (empty)");
        return words_.empty();
    }

    bool full() {
        if (crowded()) yielded(" (full)");
        return crowded();
    }

    Word read() {
        while (words_.empty()) yielded(" (empty)");
        const Word word = words_.front();
        words_.pop_front();
        lepton_bounded::state().progress = true;
        return word;
    }

    void write(const Word& word) {
        while (crowded()) yielded(" (full)");
        words_.push_back(word);
        lepton_bounded::state().progress = true;
        if (depth_ > 0) lepton_bounded::record(name_, lepton_bounded::digits(word));
    }

  private:
    stream(const stream&);
    stream& operator=(const stream&);

    bool crowded() const { return depth_ > 0 && words_.size() >= depth_; }

    void yielded(const char* why) {
        if (lepton_bounded::state().current == nullptr) return;
        if (depth_ > 0) lepton_bounded::state().stuck_at = name_ + why;
        lepton_bounded::wait();
    }

    std::string name_;
    std::size_t depth_;
    std::deque<Word> words_;
};

}  // namespace hls

#endif
