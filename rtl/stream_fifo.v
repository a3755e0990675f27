// FIFO of any depth whose ready and valid come from registers, so that it cuts every path between its two sides. Latency 1
// cycle in look-up tables; 2 in block memory, whose output register holds one word more. One beat a cycle from a depth of 2
// on, every other cycle at depth 1.
`default_nettype none

module stream_fifo #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter STYLE = "distributed"
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             s_valid,
    output wire             s_ready,
    input  wire [WIDTH-1:0] s_data,
    output wire             m_valid,
    input  wire             m_ready,
    output wire [WIDTH-1:0] m_data
);

    localparam COUNT_WIDTH = $clog2(DEPTH + 1);
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [COUNT_WIDTH-1:0] FULL = DEPTH;
    localparam [COUNT_WIDTH-1:0] ONE = 1;
    /* verilator lint_on WIDTH */

    reg [COUNT_WIDTH-1:0] count;

    wire write = s_valid && s_ready;
    wire read;
    wire any = count != {COUNT_WIDTH{1'b0}};

    assign s_ready = count != FULL;

    always @(posedge clk) begin
        // Minus one is all ones, so that one adder counts both ways.
        if (rst) count <= {COUNT_WIDTH{1'b0}};
        else if (write != read) count <= count + (write ? ONE : {COUNT_WIDTH{1'b1}});
    end

    generate
        if (DEPTH == 1) begin : word
            reg [WIDTH-1:0] memory;

            always @(posedge clk) if (write) memory <= s_data;

            assign read = any && m_ready;
            assign m_valid = any;
            assign m_data = memory;
        end else begin : words
            localparam ADDRESS = $clog2(DEPTH);
            // Constants that the parameters keep within their widths.
            /* verilator lint_off WIDTH */
            localparam [ADDRESS-1:0] LAST = DEPTH - 1;
            /* verilator lint_on WIDTH */

            (* ram_style = STYLE, no_rw_check *) reg [WIDTH-1:0] memory [0:DEPTH-1];
            reg [ADDRESS-1:0] head;
            reg [ADDRESS-1:0] tail;

            always @(posedge clk) begin
                if (write) memory[tail] <= s_data;
                // Wrapping by comparison, since the depth need not be a power of two.
                if (rst) tail <= {ADDRESS{1'b0}};
                else if (write) tail <= (tail == LAST) ? {ADDRESS{1'b0}} : tail + 1'b1;
                if (rst) head <= {ADDRESS{1'b0}};
                else if (read) head <= (head == LAST) ? {ADDRESS{1'b0}} : head + 1'b1;
            end

            if (STYLE == "block") begin : fetched
                reg [WIDTH-1:0] front;
                reg ahead;

                assign read = any && (!ahead || m_ready);
                assign m_valid = ahead;
                assign m_data = front;

                always @(posedge clk) begin
                    if (read) front <= memory[head];
                    if (rst) ahead <= 1'b0;
                    else if (!ahead || m_ready) ahead <= read;
                end
            end else begin : looked_up
                assign read = any && m_ready;
                assign m_valid = any;
                assign m_data = memory[head];
            end
        end
    endgenerate

endmodule

`default_nettype wire
