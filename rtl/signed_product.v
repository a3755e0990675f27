// Exact product of two signed operands, as wide as both together. Combinational: latency 0.
`default_nettype none

module signed_product #(
    parameter A_WIDTH = 8,
    parameter B_WIDTH = 8,
    // "dsp" leaves the product to synthesis, "lut" writes it out as shifted additions.
    parameter MULT = "dsp"
) (
    input  wire [A_WIDTH-1:0]         a,
    input  wire [B_WIDTH-1:0]         b,
    output wire [A_WIDTH+B_WIDTH-1:0] product
);

    localparam PRODUCT = A_WIDTH + B_WIDTH;

    genvar bit_row;
    generate
        if (MULT == "dsp") begin : dsp
            // A product is as wide as its operands together: nothing is extended and nothing lost.
            /* verilator lint_off WIDTHEXPAND */
            assign product = $signed(a) * $signed(b);
            /* verilator lint_on WIDTHEXPAND */
        end else begin : lut
            // One row for each bit of the narrower operand, the sign bit's subtracted. A row adds to
            // the upper part of the sum only; its lowest bit is final. Each adder is thus one bit
            // wider than the other operand, and synthesis finds no sum of three terms to rebuild.
            localparam SHORT = (A_WIDTH < B_WIDTH) ? A_WIDTH : B_WIDTH;
            localparam LONG = PRODUCT - SHORT;

            wire [SHORT-1:0] x;
            wire [LONG-1:0] y;

            if (A_WIDTH < B_WIDTH) begin : by_first
                assign x = a;
                assign y = b;
            end else begin : by_second
                assign x = b;
                assign y = a;
            end

            for (bit_row = 0; bit_row < SHORT; bit_row = bit_row + 1) begin : row
                wire [LONG:0] addend = x[bit_row] ? {y[LONG-1], y} : {(LONG + 1){1'b0}};
                wire [LONG:0] sum;

                if (bit_row == 0) begin : lowest
                    assign sum = addend;
                end else begin : higher
                    wire [LONG:0] above = {row[bit_row-1].sum[LONG], row[bit_row-1].sum[LONG:1]};

                    assign sum = (bit_row == SHORT - 1) ? above - addend : above + addend;
                end

                if (bit_row < SHORT - 1) begin : settled
                    assign product[bit_row] = sum[0];
                end else begin : top
                    assign product[PRODUCT-1:SHORT-1] = sum;
                end
            end
        end
    endgenerate

endmodule

`default_nettype wire
