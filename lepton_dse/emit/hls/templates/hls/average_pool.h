// Sum of each lane over TAPS words plus INIT, for FOLDS interleaved groups of lanes in the order of max_pool; a requantize behind
// it divides.
#ifndef LEPTON_AVERAGE_POOL_H
#define LEPTON_AVERAGE_POOL_H

#include "words.h"

namespace lepton {

template <class S>
void average_pool(hls::stream<ap_uint<S::LANES * S::ELEMENT> >& in,
                  hls::stream<ap_uint<S::LANES * S::SUM_WIDTH> >& out) {
    ap_int<S::SUM_WIDTH> sums[S::FOLDS][S::LANES];
#pragma HLS ARRAY_PARTITION variable=sums complete dim=2

    for (int period = 0; period < S::PERIODS; ++period) {
        for (int tap = 0; tap < S::TAPS; ++tap) {
            for (int fold = 0; fold < S::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1 style=flp
                const ap_uint<S::LANES * S::ELEMENT> word = in.read();
                ap_uint<S::LANES * S::SUM_WIDTH> result;
                for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
                    const ap_int<S::SUM_WIDTH> before = (tap == 0) ? ap_int<S::SUM_WIDTH>(S::INIT) : sums[fold][lane];
                    const ap_int<S::SUM_WIDTH> sum = before + element<S::ELEMENT>(word, lane);
                    sums[fold][lane] = sum;
                    put<S::SUM_WIDTH>(result, lane, sum);
                }
                if (tap == S::TAPS - 1) out.write(result);
            }
        }
    }
}

}  // namespace lepton

#endif
