// Index of the greatest of FOLDS * LANES elements, the first of equals.
#ifndef LEPTON_ARGMAX_H
#define LEPTON_ARGMAX_H

#include "words.h"

namespace lepton {

template <class S>
void argmax(hls::stream<ap_uint<S::LANES * S::ELEMENT> >& in, hls::stream<ap_uint<S::INDEX_WIDTH> >& out) {
    for (int period = 0; period < S::PERIODS; ++period) {
        ap_int<S::ELEMENT> best = 0;
        ap_uint<S::INDEX_WIDTH> best_index = 0;
        for (int fold = 0; fold < S::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1 style=flp
            const ap_uint<S::LANES * S::ELEMENT> word = in.read();
            ap_int<S::ELEMENT> winner = element<S::ELEMENT>(word, 0);
            int winner_lane = 0;
            for (int lane = 1; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
                const ap_int<S::ELEMENT> value = element<S::ELEMENT>(word, lane);
                if (value > winner) {
                    winner = value;
                    winner_lane = lane;
                }
            }
            if (fold == 0 || winner > best) {
                best = winner;
                best_index = fold * S::LANES + winner_lane;
            }
            if (fold == S::FOLDS - 1) out.write(best_index);
        }
    }
}

}  // namespace lepton

#endif
