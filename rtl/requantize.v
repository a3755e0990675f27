// y = clamp(((acc * M + 2^(SHIFT-1)) >>> SHIFT) + ZERO, LOW, HIGH) in each of PE lanes, with the multipliers M of fold
// nf read from an outside memory. Latency 3 cycles, one word a cycle.
`default_nettype none

module requantize #(
    parameter ACC_WIDTH = 24,
    parameter M_WIDTH = 17,
    parameter SHIFT = 16,
    parameter OUT_WIDTH = 8,
    parameter ZERO = 0,
    parameter LOW = -128,
    parameter HIGH = 127,
    parameter PE = 1,
    parameter NF = 1
) (
    input  wire                                     clk,
    input  wire                                     rst,
    input  wire                                     s_valid,
    output wire                                     s_ready,
    input  wire [PE*ACC_WIDTH-1:0]                  s_data,
    output wire                                     p_en,
    output reg  [((NF > 1) ? $clog2(NF) : 1) - 1:0] p_addr,
    input  wire [PE*M_WIDTH-1:0]                    p_data,
    output wire                                     m_valid,
    input  wire                                     m_ready,
    output reg  [PE*OUT_WIDTH-1:0]                  m_data
);

    localparam ADDRESS = (NF > 1) ? $clog2(NF) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [ADDRESS-1:0] LAST = NF - 1;
    localparam PRODUCT = ACC_WIDTH + M_WIDTH + 1;
    /* verilator lint_on WIDTH */
    // Wide enough for the bit below the result's least significant one to exist, whatever the shift.
    localparam WIDE = (PRODUCT > SHIFT) ? PRODUCT : SHIFT + 1;
    localparam QUOTIENT = WIDE - SHIFT + 1;
    // The clamp compares with constants of 32 bits.
    localparam SUM = ((QUOTIENT > 32) ? QUOTIENT : 32) + 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam signed [SUM-1:0] OFFSET = ZERO;
    localparam signed [SUM-1:0] LEAST = LOW;
    localparam signed [SUM-1:0] GREATEST = HIGH;
    /* verilator lint_on WIDTH */

    reg [2:0] valid;
    wire [2:0] ready = {
        !valid[2] || m_ready,
        !(&valid[2:1]) || m_ready,
        !(&valid) || m_ready
    };

    assign s_ready = ready[0];
    assign m_valid = valid[2];
    assign p_en = s_valid && s_ready;

    always @(posedge clk) begin
        if (rst) valid <= 3'b000;
        else begin
            if (ready[0]) valid[0] <= s_valid;
            if (ready[1]) valid[1] <= valid[0];
            if (ready[2]) valid[2] <= valid[1];
        end
        if (rst) p_addr <= {ADDRESS{1'b0}};
        else if (p_en) p_addr <= (p_addr == LAST) ? {ADDRESS{1'b0}} : p_addr + 1'b1;
    end

    genvar pe;
    generate
        for (pe = 0; pe < PE; pe = pe + 1) begin : lanes
            reg signed [ACC_WIDTH-1:0] acc;
            wire signed [M_WIDTH:0] multiplier = {1'b0, p_data[pe*M_WIDTH +: M_WIDTH]};
            reg signed [PRODUCT-1:0] product;

            // A product is as wide as its operands together: nothing is extended and nothing lost.
            /* verilator lint_off WIDTHEXPAND */
            wire signed [PRODUCT-1:0] exact = acc * multiplier;
            /* verilator lint_on WIDTHEXPAND */

            wire signed [WIDE-1:0] wide = {{(WIDE - PRODUCT + 1){product[PRODUCT-1]}}, product[PRODUCT-2:0]};
            // Adding half before the shift is adding the bit that the shift drops first: halves round up.
            wire signed [QUOTIENT-1:0] floor = {wide[WIDE-1], wide[WIDE-1:SHIFT]};
            wire signed [QUOTIENT-1:0] rounded = floor + $signed({{(QUOTIENT - 1){1'b0}}, wide[SHIFT-1]});
            wire signed [SUM-1:0] shifted =
                $signed({{(SUM - QUOTIENT + 1){rounded[QUOTIENT-1]}}, rounded[QUOTIENT-2:0]}) + OFFSET;

            always @(posedge clk) begin
                if (ready[0]) acc <= s_data[pe*ACC_WIDTH +: ACC_WIDTH];
                if (ready[1]) product <= exact;
                if (ready[2])
                    m_data[pe*OUT_WIDTH +: OUT_WIDTH] <= (shifted < LEAST) ? LEAST[OUT_WIDTH-1:0]
                        : (shifted > GREATEST) ? GREATEST[OUT_WIDTH-1:0] : shifted[OUT_WIDTH-1:0];
            end
        end
    endgenerate

endmodule

`default_nettype wire
