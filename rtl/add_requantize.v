// y = clamp(((a - ZERO_A) * MULTIPLIER_A + (b - ZERO_B) * MULTIPLIER_B + 2^(SHIFT-1)) >>> SHIFT) + ZERO, LOW, HIGH) in each
// lane of two streams that are taken together. Latency 3 cycles, one word a cycle.
`default_nettype none

module add_requantize #(
    parameter A_WIDTH = 8,
    parameter B_WIDTH = 8,
    parameter ZERO_A = 0,
    parameter ZERO_B = 0,
    parameter MULTIPLIER_A = 1,
    parameter MULTIPLIER_B = 1,
    parameter M_WIDTH = 17,
    parameter SHIFT = 1,
    parameter OUT_WIDTH = 8,
    parameter ZERO = 0,
    parameter LOW = -128,
    parameter HIGH = 127,
    parameter LANES = 1
) (
    input  wire                       clk,
    input  wire                       rst,
    input  wire                       a_valid,
    output wire                       a_ready,
    input  wire [LANES*A_WIDTH-1:0]   a_data,
    input  wire                       b_valid,
    output wire                       b_ready,
    input  wire [LANES*B_WIDTH-1:0]   b_data,
    output wire                       m_valid,
    input  wire                       m_ready,
    output reg  [LANES*OUT_WIDTH-1:0] m_data
);

    localparam A_PRODUCT = A_WIDTH + M_WIDTH + 1;
    localparam B_PRODUCT = B_WIDTH + M_WIDTH + 1;
    // Both products, the zero points' share and the half that rounds.
    localparam PRODUCT = ((A_PRODUCT > B_PRODUCT) ? A_PRODUCT : B_PRODUCT) + 2;
    localparam TOTAL = ((PRODUCT > SHIFT) ? PRODUCT : SHIFT) + 2;
    localparam QUOTIENT = TOTAL - SHIFT;
    // The clamp compares with constants of 32 bits.
    localparam SUM = ((QUOTIENT > 32) ? QUOTIENT : 32) + 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam signed [M_WIDTH:0] FACTOR_A = MULTIPLIER_A;
    localparam signed [M_WIDTH:0] FACTOR_B = MULTIPLIER_B;
    localparam signed [TOTAL-1:0] WIDE_A = MULTIPLIER_A;
    localparam signed [TOTAL-1:0] WIDE_B = MULTIPLIER_B;
    localparam signed [TOTAL-1:0] ORIGIN_A = ZERO_A;
    localparam signed [TOTAL-1:0] ORIGIN_B = ZERO_B;
    localparam signed [SUM-1:0] OFFSET = ZERO;
    localparam signed [SUM-1:0] LEAST = LOW;
    localparam signed [SUM-1:0] GREATEST = HIGH;
    /* verilator lint_on WIDTH */
    localparam signed [TOTAL-1:0] HALF = {{(TOTAL - 1){1'b0}}, 1'b1} << (SHIFT - 1);
    // What does not depend on the operands is added at once.
    localparam signed [TOTAL-1:0] CONSTANT = HALF - ORIGIN_A * WIDE_A - ORIGIN_B * WIDE_B;

    reg [2:0] valid;
    wire [2:0] ready = {
        !valid[2] || m_ready,
        !(&valid[2:1]) || m_ready,
        !(&valid) || m_ready
    };

    // A beat of one stream waits for that of the other.
    assign a_ready = ready[0] && b_valid;
    assign b_ready = ready[0] && a_valid;
    assign m_valid = valid[2];

    always @(posedge clk) begin
        if (rst) valid <= 3'b000;
        else begin
            if (ready[0]) valid[0] <= a_valid && b_valid;
            if (ready[1]) valid[1] <= valid[0];
            if (ready[2]) valid[2] <= valid[1];
        end
    end

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            reg signed [A_WIDTH-1:0] a;
            reg signed [B_WIDTH-1:0] b;
            reg signed [A_PRODUCT-1:0] a_product;
            reg signed [B_PRODUCT-1:0] b_product;

            // A product is as wide as its operands together: nothing is extended and nothing lost.
            /* verilator lint_off WIDTHEXPAND */
            wire signed [A_PRODUCT-1:0] a_exact = a * FACTOR_A;
            wire signed [B_PRODUCT-1:0] b_exact = b * FACTOR_B;
            /* verilator lint_on WIDTHEXPAND */

            wire signed [TOTAL-1:0] a_wide = {{(TOTAL - A_PRODUCT + 1){a_product[A_PRODUCT-1]}}, a_product[A_PRODUCT-2:0]};
            wire signed [TOTAL-1:0] b_wide = {{(TOTAL - B_PRODUCT + 1){b_product[B_PRODUCT-1]}}, b_product[B_PRODUCT-2:0]};
            // The bits below the result's least significant one only carry.
            /* verilator lint_off UNUSEDSIGNAL */
            wire signed [TOTAL-1:0] total = a_wide + b_wide + CONSTANT;
            /* verilator lint_on UNUSEDSIGNAL */
            wire signed [SUM-1:0] shifted =
                $signed({{(SUM - QUOTIENT + 1){total[TOTAL-1]}}, total[TOTAL-2:SHIFT]}) + OFFSET;

            always @(posedge clk) begin
                if (ready[0]) begin
                    a <= a_data[lane*A_WIDTH +: A_WIDTH];
                    b <= b_data[lane*B_WIDTH +: B_WIDTH];
                end
                if (ready[1]) begin
                    a_product <= a_exact;
                    b_product <= b_exact;
                end
                if (ready[2])
                    m_data[lane*OUT_WIDTH +: OUT_WIDTH] <= (shifted < LEAST) ? LEAST[OUT_WIDTH-1:0]
                        : (shifted > GREATEST) ? GREATEST[OUT_WIDTH-1:0] : shifted[OUT_WIDTH-1:0];
            end
        end
    endgenerate

endmodule

`default_nettype wire
