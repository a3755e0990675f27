// Offers each beat to several consumers at once; each takes it when it likes, and the register is free when the last has.
// Latency 1 cycle, one beat a cycle.
`default_nettype none

module stream_fork #(
    parameter WIDTH = 8,
    parameter COPIES = 2
) (
    input  wire              clk,
    input  wire              rst,
    input  wire              s_valid,
    output wire              s_ready,
    input  wire [WIDTH-1:0]  s_data,
    output wire [COPIES-1:0] m_valid,
    input  wire [COPIES-1:0] m_ready,
    output reg  [WIDTH-1:0]  m_data
);

    reg held;
    // Consumers that have taken the beat which others still wait to take.
    reg [COPIES-1:0] done;

    wire [COPIES-1:0] through = done | m_ready;

    assign s_ready = !held || &through;
    assign m_valid = {COPIES{held}} & ~done;

    always @(posedge clk) begin
        if (s_ready) m_data <= s_data;
        if (rst) held <= 1'b0;
        else if (s_ready) held <= s_valid;
        if (rst || s_ready) done <= {COPIES{1'b0}};
        else done <= through;
    end

endmodule

`default_nettype wire
