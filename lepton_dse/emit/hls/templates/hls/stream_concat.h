// Joins two streams word after word: A_WORDS of the first, then B_WORDS of the second, and again.
#ifndef LEPTON_STREAM_CONCAT_H
#define LEPTON_STREAM_CONCAT_H

#include "words.h"

namespace lepton {

template <class S>
void stream_concat(hls::stream<ap_uint<S::WIDTH> >& a, hls::stream<ap_uint<S::WIDTH> >& b, hls::stream<ap_uint<S::WIDTH> >& out) {
    for (int period = 0; period < S::PERIODS; ++period) {
        for (int word = 0; word < S::A_WORDS + S::B_WORDS; ++word) {
#pragma HLS PIPELINE II=1 style=flp
            out.write(word < S::A_WORDS ? a.read() : b.read());
        }
    }
}

}  // namespace lepton

#endif
