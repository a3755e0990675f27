// Streams the frames of the vectors through the design and compares every word: exit code 0 where all are equal, 1 where one
// differs, is missing or left over, 2 where the vectors cannot be read.
//
//     test_bench [FOLDER [RESULT]]
//
// FOLDER, "vectors" by default, holds input.hex and expected.hex, one word a line; RESULT gets the words that the design gave.
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "../lepton_top.h"

namespace {

template <int WIDTH>
bool read_words(const std::string& path, std::vector<ap_uint<WIDTH> >& words) {
    std::ifstream file(path.c_str());
    if (!file) {
        std::cerr << "cannot open " << path << "\n";
        return false;
    }
    for (std::string line; file >> line;) {
        ap_uint<WIDTH> word = 0;
        const int digits = static_cast<int>(line.size());
        for (int digit = 0; digit < digits && digit < WIDTH / 4; ++digit) {
            const char text = line[digits - 1 - digit];
            word.range(4 * digit + 3, 4 * digit) = ap_uint<4>(text <= '9' ? text - '0' : text - 'a' + 10);
        }
        words.push_back(word);
    }
    return true;
}

template <int WIDTH>
std::string hexadecimal(const ap_uint<WIDTH>& word) {
    std::string text;
    for (int digit = WIDTH / 4 - 1; digit >= 0; --digit) {
        const ap_uint<4> nibble = word.range(4 * digit + 3, 4 * digit);
        text += "0123456789abcdef"[nibble.to_int()];
    }
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : "vectors";
    std::vector<InputWord> input;
    std::vector<OutputWord> expected;
    if (!read_words(folder + "/input.hex", input) || !read_words(folder + "/expected.hex", expected)) return 2;
    std::ofstream result;
    if (argc > 2) {
        result.open(argv[2]);
        if (!result) return 2;
    }

    hls::stream<InputWord> in("input");
    hls::stream<OutputWord> out("output");
    const size_t frames = input.size() / INPUT_BEATS;
    size_t wrong = 0, given = 0;
    for (size_t frame = 0; frame < frames; ++frame) {
        for (size_t beat = 0; beat < INPUT_BEATS; ++beat) in.write(input[frame * INPUT_BEATS + beat]);
        lepton_top(in, out);
        while (!out.empty()) {
            const OutputWord word = out.read();
            if (given >= expected.size() || word != expected[given]) {
                if (wrong == 0) std::cout << "frame " << frame << ": word " << given << " is " << hexadecimal(word) << "\n";
                ++wrong;
            }
            if (result.is_open()) result << hexadecimal(word) << "\n";
            ++given;
        }
    }
    if (given < expected.size()) wrong += expected.size() - given;
    std::cout << wrong << " of " << expected.size() << " words differ\n";
    return wrong == 0 ? 0 : 1;
}
