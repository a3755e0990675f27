// Greatest element of each lane over TAPS words, for FOLDS interleaved groups of lanes: the taps of a window arrive tap by tap,
// all folds of each.
#ifndef LEPTON_MAX_POOL_H
#define LEPTON_MAX_POOL_H

#include "words.h"

namespace lepton {

template <class S>
void max_pool(hls::stream<ap_uint<S::LANES * S::ELEMENT> >& in, hls::stream<ap_uint<S::LANES * S::ELEMENT> >& out) {
    ap_int<S::ELEMENT> kept[S::FOLDS][S::LANES];
#pragma HLS ARRAY_PARTITION variable=kept complete dim=2

    for (int period = 0; period < S::PERIODS; ++period) {
        for (int tap = 0; tap < S::TAPS; ++tap) {
            for (int fold = 0; fold < S::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1 style=flp
                const ap_uint<S::LANES * S::ELEMENT> word = in.read();
                ap_uint<S::LANES * S::ELEMENT> result;
                for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
                    const ap_int<S::ELEMENT> value = element<S::ELEMENT>(word, lane);
                    const ap_int<S::ELEMENT> greatest =
                        (tap == 0 || value > kept[fold][lane]) ? value : kept[fold][lane];
                    kept[fold][lane] = greatest;
                    put<S::ELEMENT>(result, lane, greatest);
                }
                if (tap == S::TAPS - 1) out.write(result);
            }
        }
    }
}

}  // namespace lepton

#endif
