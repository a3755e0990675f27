// Two products of one signed operand with two others, by one multiplier: a * (b1 * 2^PRODUCT + b0). The lower half of the result
// is a * b0; the upper half is a * b1, less one where a * b0 is negative. Combinational: latency 0.
`default_nettype none

module packed_product #(
    parameter A_WIDTH = 8,
    parameter B_WIDTH = 8
) (
    input  wire [A_WIDTH-1:0]             a,
    // b1 above b0.
    input  wire [2*B_WIDTH-1:0]           b,
    output wire [2*(A_WIDTH+B_WIDTH)-1:0] product
);

    localparam PRODUCT = A_WIDTH + B_WIDTH;

    wire negative = b[B_WIDTH-1];
    // Two's complement of the sum, put together: a negative b0 fills the bits up to b1 with its sign and takes one from b1.
    wire [B_WIDTH:0] upper = {b[2*B_WIDTH-1], b[2*B_WIDTH-1:B_WIDTH]} - {{B_WIDTH{1'b0}}, negative};
    wire [PRODUCT+B_WIDTH:0] operand = {upper, {A_WIDTH{negative}}, b[B_WIDTH-1:0]};
    // The highest bit is the sign once more.
    /* verilator lint_off UNUSEDSIGNAL */
    /* verilator lint_off WIDTHEXPAND */
    wire [PRODUCT+B_WIDTH+A_WIDTH:0] whole = $signed(a) * $signed(operand);
    /* verilator lint_on WIDTHEXPAND */
    /* verilator lint_on UNUSEDSIGNAL */

    assign product = whole[2*PRODUCT-1:0];

endmodule

`default_nettype wire
