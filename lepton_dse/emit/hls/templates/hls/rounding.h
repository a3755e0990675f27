// y = clamp(((total + 2^(SHIFT-1)) >> SHIFT) + ZERO, LOW, HIGH): the shift is arithmetic, so halves round up.
#ifndef LEPTON_ROUNDING_H
#define LEPTON_ROUNDING_H

#include "words.h"

namespace lepton {

template <class S, int TOTAL>
ap_int<S::OUT_WIDTH> rounded(const ap_int<TOTAL>& total) {
#pragma HLS INLINE
    // Room for the half, and for constants of 32 bits.
    const int WIDE = Larger<TOTAL, S::SHIFT>::value + 2;
    const int SUM = Larger<WIDE, 32>::value + 1;
    const ap_int<WIDE> half = ap_int<WIDE>(1) << (S::SHIFT - 1);
    const ap_int<WIDE> raised = total + half;
    const ap_int<WIDE> quotient = raised >> S::SHIFT;
    const ap_int<SUM> sum = quotient + ap_int<32>(S::ZERO);
    const ap_int<SUM> low = S::LOW, high = S::HIGH;
    return ap_int<S::OUT_WIDTH>((sum < low) ? low : (sum > high) ? high : sum);
}

}  // namespace lepton

#endif
