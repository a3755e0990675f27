// Changes the number of elements in a word; one width divides the other. Latency 1 cycle after the last word that an
// output word needs; one step a cycle, where a step takes a narrow word (up) or emits one (down).
`default_nettype none

module width_converter #(
    parameter ELEMENT = 8,
    parameter IN_LANES = 1,
    parameter OUT_LANES = 2
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   s_valid,
    output wire                   s_ready,
    input  wire [IN_LANES*ELEMENT-1:0]  s_data,
    output reg                    m_valid,
    input  wire                   m_ready,
    output reg  [OUT_LANES*ELEMENT-1:0] m_data
);

    wire free = !m_valid || m_ready;

    generate
        if (IN_LANES == OUT_LANES) begin : same
            assign s_ready = free;

            always @(posedge clk) begin
                if (free) m_data <= s_data;
                if (rst) m_valid <= 1'b0;
                else if (free) m_valid <= s_valid;
            end
        end else if (IN_LANES < OUT_LANES) begin : up
            localparam PARTS = OUT_LANES / IN_LANES;
            localparam PART_WIDTH = $clog2(PARTS);
            // Constants that the parameters keep within their widths.
            /* verilator lint_off WIDTH */
            localparam [PART_WIDTH-1:0] LAST = PARTS - 1;
            localparam REST = (OUT_LANES - IN_LANES) * ELEMENT;
            /* verilator lint_on WIDTH */

            // The words before the last are kept apart from the output, which may still be waiting to leave.
            reg [REST-1:0] collected;
            reg [PART_WIDTH-1:0] part;

            wire last = part == LAST;
            wire fire = s_valid && s_ready;

            assign s_ready = !last || free;

            always @(posedge clk) begin
                if (fire && last) m_data <= {s_data, collected};
                if (rst) m_valid <= 1'b0;
                else if (free) m_valid <= fire && last;
                if (rst) part <= {PART_WIDTH{1'b0}};
                else if (fire) part <= last ? {PART_WIDTH{1'b0}} : part + 1'b1;
            end

            if (PARTS == 2) begin : pair
                always @(posedge clk) if (fire) collected <= s_data;
            end else begin : several
                always @(posedge clk) if (fire) collected <= {s_data, collected[REST-1:IN_LANES*ELEMENT]};
            end
        end else begin : down
            localparam PARTS = IN_LANES / OUT_LANES;
            localparam PART_WIDTH = $clog2(PARTS);
            // Constants that the parameters keep within their widths.
            /* verilator lint_off WIDTH */
            localparam [PART_WIDTH-1:0] LAST = PARTS - 1;
            localparam REST = (IN_LANES - OUT_LANES) * ELEMENT;
            /* verilator lint_on WIDTH */

            reg [REST-1:0] held;
            reg [PART_WIDTH-1:0] part;

            wire first = part == {PART_WIDTH{1'b0}};
            wire fire = free && (!first || s_valid);

            // A word is taken in the step that emits its first part, so words follow one another without a gap.
            assign s_ready = free && first;

            always @(posedge clk) begin
                if (free) m_data <= first ? s_data[OUT_LANES*ELEMENT-1:0] : held[OUT_LANES*ELEMENT-1:0];
                if (rst) m_valid <= 1'b0;
                else if (free) m_valid <= fire;
                if (rst) part <= {PART_WIDTH{1'b0}};
                else if (fire) part <= (part == LAST) ? {PART_WIDTH{1'b0}} : part + 1'b1;
            end

            if (PARTS == 2) begin : pair
                always @(posedge clk) if (fire && first) held <= s_data[IN_LANES*ELEMENT-1:OUT_LANES*ELEMENT];
            end else begin : several
                always @(posedge clk)
                    if (fire)
                        held <= first ? s_data[IN_LANES*ELEMENT-1:OUT_LANES*ELEMENT]
                                      : {{OUT_LANES*ELEMENT{1'b0}}, held[REST-1:OUT_LANES*ELEMENT]};
            end
        end
    endgenerate

endmodule

`default_nettype wire
