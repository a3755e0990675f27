// Memory image with a synchronous read under an enable. Latency 1 cycle; without the enable the last word stays.
`default_nettype none

module rom #(
    parameter WIDTH = 8,
    parameter DEPTH = 16,
    parameter INIT = "rom.hex",
    parameter STYLE = "block"
) (
    input  wire                                           clk,
    input  wire                                           en,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1) - 1:0] addr,
    output reg  [WIDTH-1:0]                               data
);

    // A memory without a write port that lies in look-up tables is logic, not memory, to synthesis.
    // The attribute is read by synthesis alone.
    /* verilator lint_off UNUSEDPARAM */
    localparam ROM_STYLE = (STYLE == "block") ? "block" : "logic";
    /* verilator lint_on UNUSEDPARAM */

    (* rom_style = ROM_STYLE *) reg [WIDTH-1:0] memory [0:DEPTH-1];

    initial $readmemh(INIT, memory);

    always @(posedge clk) if (en) data <= memory[addr];

endmodule

`default_nettype wire
