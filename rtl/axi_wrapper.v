// Puts a design of streams behind AXI: a gate that lets frames in when they are asked for, and an AXI4-Lite slave that starts them,
// counts them and times them. Latency 0: valid, ready and data pass straight through, one beat a cycle; the gate opens and
// closes between frames only, and no offer is taken back. A read answers after 1 cycle, a write after 2.
//
// offset  register   access
//   0x00  IDENTITY   read        the bytes "LEPT"
//   0x04  VERSION    read        of this map
//   0x08  DESIGN     read        parameter DESIGN
//   0x0c  CONTROL    read/write  bit 0: let frames in while 1; bit 1: let one frame in, reads as 1 until its first beat is in
//   0x10  STATUS     read        bit 0: a frame is inside; bit 1: the gate is open; bit 2: neither
//   0x14  FRAMES     read        frames that have left since reset
//   0x18  LATENCY    read        cycles from a frame's first beat in to its last beat out, of the latest that entered an empty
//                                design; counts on until that beat is out
//   0x1c  INTERVAL   read        cycles between the last beats of the latest two frames
`default_nettype none

module axi_wrapper #(
    parameter IN_WIDTH = 8,
    parameter OUT_WIDTH = 8,
    // Beats of a frame that comes in.
    parameter BEATS = 1,
    parameter DESIGN = 0
) (
    input  wire                 aclk,
    input  wire                 aresetn,
    // The stream from outside, and into the design.
    input  wire                 s_axis_tvalid,
    output wire                 s_axis_tready,
    input  wire [IN_WIDTH-1:0]  s_axis_tdata,
    output wire                 core_rst,
    output wire                 core_in_valid,
    input  wire                 core_in_ready,
    output wire [IN_WIDTH-1:0]  core_in_data,
    // The stream out of the design, and to the outside.
    input  wire                 core_out_valid,
    output wire                 core_out_ready,
    input  wire [OUT_WIDTH-1:0] core_out_data,
    input  wire                 core_out_last,
    output wire                 m_axis_tvalid,
    input  wire                 m_axis_tready,
    output wire [OUT_WIDTH-1:0] m_axis_tdata,
    output wire                 m_axis_tlast,
    // Registers are whole words; bits that no register has are not looked at.
    input  wire                 s_axil_awvalid,
    output wire                 s_axil_awready,
    /* verilator lint_off UNUSEDSIGNAL */
    input  wire [4:0]           s_axil_awaddr,
    /* verilator lint_on UNUSEDSIGNAL */
    input  wire                 s_axil_wvalid,
    output wire                 s_axil_wready,
    /* verilator lint_off UNUSEDSIGNAL */
    input  wire [31:0]          s_axil_wdata,
    input  wire [3:0]           s_axil_wstrb,
    /* verilator lint_on UNUSEDSIGNAL */
    output reg                  s_axil_bvalid,
    input  wire                 s_axil_bready,
    output wire [1:0]           s_axil_bresp,
    input  wire                 s_axil_arvalid,
    output wire                 s_axil_arready,
    /* verilator lint_off UNUSEDSIGNAL */
    input  wire [4:0]           s_axil_araddr,
    /* verilator lint_on UNUSEDSIGNAL */
    output reg                  s_axil_rvalid,
    input  wire                 s_axil_rready,
    output reg  [31:0]          s_axil_rdata,
    output wire [1:0]           s_axil_rresp
);

    localparam COUNT_WIDTH = (BEATS > 1) ? $clog2(BEATS) : 1;
    // Counts the frames inside, each of which has at least one beat there.
    localparam PENDING_WIDTH = 16;
    localparam [31:0] IDENTITY = 32'h4c455054;
    localparam [31:0] VERSION = 1;
    localparam [2:0] CONTROL = 3;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [COUNT_WIDTH-1:0] LAST = BEATS - 1;
    localparam [31:0] DESIGN_WORD = DESIGN;
    /* verilator lint_on WIDTH */

    assign core_rst = !aresetn;

    // Writes: address and data come in any order, each into a register of its own.
    reg address_held;
    reg data_held;
    reg to_control;
    reg [1:0] written;
    wire write = address_held && data_held && (!s_axil_bvalid || s_axil_bready);

    assign s_axil_awready = !address_held;
    assign s_axil_wready = !data_held;
    assign s_axil_bresp = 2'b00;

    // The lowest byte of CONTROL is all that can be written; without its strobe the write changes nothing.
    reg strobed;

    always @(posedge aclk) begin
        if (s_axil_awready) to_control <= s_axil_awaddr[4:2] == CONTROL;
        if (s_axil_wready) begin
            written <= s_axil_wdata[1:0];
            strobed <= s_axil_wstrb[0];
        end
        if (core_rst) begin
            address_held <= 1'b0;
            data_held <= 1'b0;
            s_axil_bvalid <= 1'b0;
        end else begin
            address_held <= address_held ? !write : s_axil_awvalid;
            data_held <= data_held ? !write : s_axil_wvalid;
            if (!s_axil_bvalid || s_axil_bready) s_axil_bvalid <= write;
        end
    end

    // The gate. A beat that has been offered to the design stays offered, so it closes only where none is.
    reg enabled;
    reg single;
    reg open;
    reg [COUNT_WIDTH-1:0] beat;
    wire take = core_in_valid && core_in_ready;
    wire first = beat == {COUNT_WIDTH{1'b0}};
    wire last = beat == LAST;
    wire control = write && to_control && strobed;
    // Asked for beyond the frame that is entering.
    wire asked = enabled || (single && !(take && first));

    assign s_axis_tready = open && core_in_ready;
    assign core_in_valid = open && s_axis_tvalid;
    assign core_in_data = s_axis_tdata;

    always @(posedge aclk) begin
        if (core_rst) begin
            enabled <= 1'b0;
            single <= 1'b0;
            open <= 1'b0;
            beat <= {COUNT_WIDTH{1'b0}};
        end else begin
            if (control) enabled <= written[0];
            if (control && written[1]) single <= 1'b1;
            else if (take && first) single <= 1'b0;
            if (!open || (take && last) || (first && !s_axis_tvalid)) open <= asked;
            if (take) beat <= last ? {COUNT_WIDTH{1'b0}} : beat + 1'b1;
        end
    end

    // The stream that leaves is only watched.
    wire leave = core_out_valid && m_axis_tready && core_out_last;

    assign core_out_ready = m_axis_tready;
    assign m_axis_tvalid = core_out_valid;
    assign m_axis_tdata = core_out_data;
    assign m_axis_tlast = core_out_last;

    reg [PENDING_WIDTH-1:0] pending;
    reg timing;
    reg [31:0] frames;
    reg [31:0] latency;
    reg [31:0] since;
    reg [31:0] interval;
    wire begins = take && first;
    wire empty = pending == {PENDING_WIDTH{1'b0}};

    always @(posedge aclk) begin
        if (core_rst) begin
            pending <= {PENDING_WIDTH{1'b0}};
            timing <= 1'b0;
            frames <= 32'd0;
            latency <= 32'd0;
            interval <= 32'd0;
        end else begin
            // Minus one is all ones, so that one adder counts both ways.
            if (begins != leave) pending <= pending + {{(PENDING_WIDTH - 1){leave}}, 1'b1};
            if (leave) frames <= frames + 32'd1;
            if (begins && empty) latency <= 32'd1;
            else if (timing && !leave) latency <= latency + 32'd1;
            if (begins && empty) timing <= 1'b1;
            else if (leave) timing <= 1'b0;
            // Before the first frame has left there is nothing to count from.
            if (leave && frames != 32'd0) interval <= since;
        end
        since <= leave ? 32'd1 : since + 32'd1;
    end

    assign s_axil_arready = !s_axil_rvalid;
    assign s_axil_rresp = 2'b00;

    always @(posedge aclk) begin
        if (s_axil_arready)
            case (s_axil_araddr[4:2])
                3'd0: s_axil_rdata <= IDENTITY;
                3'd1: s_axil_rdata <= VERSION;
                3'd2: s_axil_rdata <= DESIGN_WORD;
                CONTROL: s_axil_rdata <= {30'd0, single, enabled};
                3'd4: s_axil_rdata <= {29'd0, empty && !open, open, !empty};
                3'd5: s_axil_rdata <= frames;
                3'd6: s_axil_rdata <= latency;
                3'd7: s_axil_rdata <= interval;
            endcase
        if (core_rst) s_axil_rvalid <= 1'b0;
        else s_axil_rvalid <= s_axil_rvalid ? !s_axil_rready : s_axil_arvalid;
    end

endmodule

`default_nettype wire
