// Passes WORDS words a frame on, zeros above the bits that there are.
#ifndef LEPTON_FORWARD_H
#define LEPTON_FORWARD_H

#include "words.h"

namespace lepton {

template <int IN_WIDTH, int OUT_WIDTH, int WORDS>
void forward(hls::stream<ap_uint<IN_WIDTH> >& in, hls::stream<ap_uint<OUT_WIDTH> >& out) {
    for (int word = 0; word < WORDS; ++word) {
#pragma HLS PIPELINE II=1 style=flp
        out.write(ap_uint<OUT_WIDTH>(in.read()));
    }
}

}  // namespace lepton

#endif
