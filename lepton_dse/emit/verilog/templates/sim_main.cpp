// Streams beats through the Verilated design under two stall traces and records the cycle of every transfer.
//
//     sim INPUT.hex OUTPUT_BEATS SOURCE.bits SINK.bits RESULT.txt
//
// INPUT.hex holds one word a line. A trace is one line of 0 and 1, repeated cyclically: the source may raise valid in a
// cycle whose bit is 1 and then holds it; the sink is ready in exactly the cycles whose bit is 1. Cycle 0 is the first after
// reset. RESULT.txt gets a line "i CYCLE" for each input beat and "o CYCLE LAST WORD" for each output beat.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <type_traits>
#include <vector>

#include "Vlepton_top.h"
#include "verilated.h"

namespace {

using Words = std::vector<std::uint32_t>;

constexpr long kPatience = 10000000;  // cycles without a transfer after which the design counts as stuck

Words parse(const std::string& line) {
    Words words((line.size() + 7) / 8, 0);
    for (std::size_t digit = 0; digit < line.size(); ++digit) {
        const char text[2] = {line[line.size() - 1 - digit], 0};
        words[digit / 8] |= static_cast<std::uint32_t>(std::strtoul(text, nullptr, 16)) << (4 * (digit % 8));
    }
    return words;
}

template <typename Port>
void put(Port& port, const Words& words) {
    if constexpr (std::is_integral_v<Port>) {
        std::uint64_t value = words[0];
        if (words.size() > 1) value |= static_cast<std::uint64_t>(words[1]) << 32;
        port = static_cast<Port>(value);
    } else {
        for (std::size_t index = 0; index < sizeof(Port) / 4; ++index) port[index] = index < words.size() ? words[index] : 0;
    }
}

template <typename Port>
void print(std::FILE* file, const Port& port) {
    if constexpr (std::is_integral_v<Port>) {
        std::fprintf(file, "%llx", static_cast<unsigned long long>(port));
    } else {
        for (std::size_t index = sizeof(Port) / 4; index-- > 0;) std::fprintf(file, "%08x", port[index]);
    }
}

std::ifstream opened(const char* path) {
    std::ifstream file(path);
    if (!file) {
        std::cerr << "cannot open " << path << "\n";
        std::exit(2);
    }
    return file;
}

std::string bits(const char* path) {
    std::string line;
    std::getline(opened(path) >> std::ws, line);
    return line;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) return 2;
    std::vector<Words> input;
    std::ifstream file = opened(argv[1]);
    for (std::string line; file >> line;) input.push_back(parse(line));
    const long wanted = std::atol(argv[2]);
    const std::string source = bits(argv[3]), sink = bits(argv[4]);
    std::FILE* result = std::fopen(argv[5], "w");
    if (!result || source.empty() || sink.empty()) return 2;

    VerilatedContext context;
    Vlepton_top top(&context);
    const auto tick = [&top] {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
    };
    top.s_axis_tvalid = 0;
    top.m_axis_tready = 0;
    top.rst = 1;
    top.clk = 0;
    top.eval();
    for (int cycle = 0; cycle < 4; ++cycle) tick();
    top.rst = 0;

    std::size_t sent = 0;
    long received = 0, idle = 0;
    bool holding = false;
    // Beats that no window reads are taken too, some of them after the last output.
    for (long cycle = 0; (received < wanted || sent < input.size()) && idle < kPatience; ++cycle, ++idle) {
        if (!holding && sent < input.size() && source[cycle % source.size()] == '1') {
            put(top.s_axis_tdata, input[sent]);
            holding = true;
        }
        top.s_axis_tvalid = holding;
        top.m_axis_tready = sink[cycle % sink.size()] == '1';
        top.eval();
        if (holding && top.s_axis_tready) {
            std::fprintf(result, "i %ld\n", cycle);
            holding = false;
            ++sent;
            idle = 0;
        }
        if (top.m_axis_tvalid && top.m_axis_tready) {
            std::fprintf(result, "o %ld %d ", cycle, static_cast<int>(top.m_axis_tlast));
            print(result, top.m_axis_tdata);
            std::fprintf(result, "\n");
            ++received;
            idle = 0;
        }
        tick();
    }
    std::fclose(result);
    top.final();
    return received == wanted && sent == input.size() ? 0 : 3;
}
