// Self-checking bench of the design behind its AXI registers: one frame at full speed, whose latency is compared with the prediction,
// and the others under stalls on both sides. Ends with "passed", or with the first thing that is wrong and an error.
//
// It runs in the folder that holds mem/ and vectors/.
`timescale 1ns / 1ps
`default_nettype none

module bench #(
    parameter IN_WIDTH = 8,
    parameter OUT_WIDTH = 8,
    parameter IN_BEATS = 1,
    parameter OUT_BEATS = 1,
    parameter DESIGN = 0,
    parameter SAMPLES = 1,
    parameter LATENCY = 1,
    parameter FRAMES = 1
);

    localparam [4:0] IDENTITY = 5'h00, REVISION = 5'h08, CONTROL = 5'h0c, STATUS = 5'h10, DONE = 5'h14, CYCLES = 5'h18;
    localparam [31:0] AT_REST = 4;

    reg aclk = 0;
    always #5 aclk = !aclk;

    reg aresetn = 0;
    reg s_axis_tvalid = 0, m_axis_tready = 0;
    reg [IN_WIDTH-1:0] s_axis_tdata = 0;
    wire s_axis_tready, m_axis_tvalid, m_axis_tlast;
    wire [OUT_WIDTH-1:0] m_axis_tdata;
    reg awvalid = 0, wvalid = 0, bready = 0, arvalid = 0, rready = 0;
    reg [4:0] awaddr = 0, araddr = 0;
    reg [31:0] wdata = 0;
    wire awready, wready, bvalid, arready, rvalid;
    wire [1:0] bresp, rresp;
    wire [31:0] rdata;

    lepton_axi dut (
        .aclk(aclk), .aresetn(aresetn),
        .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready), .s_axis_tdata(s_axis_tdata),
        .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .m_axis_tdata(m_axis_tdata), .m_axis_tlast(m_axis_tlast),
        .s_axil_awvalid(awvalid), .s_axil_awready(awready), .s_axil_awaddr(awaddr),
        .s_axil_wvalid(wvalid), .s_axil_wready(wready), .s_axil_wdata(wdata), .s_axil_wstrb(4'hf),
        .s_axil_bvalid(bvalid), .s_axil_bready(bready), .s_axil_bresp(bresp),
        .s_axil_arvalid(arvalid), .s_axil_arready(arready), .s_axil_araddr(araddr),
        .s_axil_rvalid(rvalid), .s_axil_rready(rready), .s_axil_rdata(rdata), .s_axil_rresp(rresp)
    );

    reg [IN_WIDTH-1:0] words [0:SAMPLES*IN_BEATS-1];
    reg [OUT_WIDTH-1:0] expected [0:SAMPLES*OUT_BEATS-1];

    // Streams, which change at the rising edge, as the design does.
    reg stalls = 0;
    integer sent = 0, received = 0, next = 0, quiet = 0;

    always @(posedge aclk) begin
        if (aresetn) begin
            quiet <= quiet + 1;
            if (!s_axis_tvalid || s_axis_tready) begin
                next = sent + ((s_axis_tvalid && s_axis_tready) ? 1 : 0);
                if (next != sent) quiet <= 0;
                sent <= next;
                if (next < FRAMES * IN_BEATS && (!stalls || $urandom % 4 != 0)) begin
                    s_axis_tvalid <= 1;
                    s_axis_tdata <= words[next];
                end else s_axis_tvalid <= 0;
            end
            m_axis_tready <= !stalls || $urandom % 3 != 0;
            if (m_axis_tvalid !== 0 && m_axis_tready) begin
                quiet <= 0;
                received <= received + 1;
                if (m_axis_tvalid !== 1) $fatal(1, "valid is unknown");
                if (received >= FRAMES * OUT_BEATS) $fatal(1, "more than %0d output words", FRAMES * OUT_BEATS);
                if (m_axis_tdata !== expected[received])
                    $fatal(1, "output word %0d: expected %h, observed %h", received, expected[received], m_axis_tdata);
                if (m_axis_tlast !== ((received + 1) % OUT_BEATS == 0))
                    $fatal(1, "output word %0d: the mark of a frame's last word is %b", received, m_axis_tlast);
            end
            // The predicted latency is what a whole frame takes; a few of them without a beat are a standstill.
            if (quiet > 8 * (LATENCY + 1000) && (sent < FRAMES * IN_BEATS || received < FRAMES * OUT_BEATS))
                $fatal(1, "nothing moved for %0d cycles: %0d words in, %0d out", quiet, sent, received);
        end
    end

    // Registers. What this side does changes at the falling edge, where the answers to the last rising one show.
    task write(input [4:0] address, input [31:0] value);
        begin
            awaddr = address;
            wdata = value;
            awvalid = 1;
            wvalid = 1;
            bready = 1;
            while (!awready || !wready) @(negedge aclk);
            @(negedge aclk);
            awvalid = 0;
            wvalid = 0;
            while (!bvalid) @(negedge aclk);
            if (bresp !== 0) $fatal(1, "register %h: write response %b", address, bresp);
            @(negedge aclk);
            bready = 0;
        end
    endtask

    reg [31:0] answer;

    task read(input [4:0] address);
        begin
            araddr = address;
            arvalid = 1;
            rready = 1;
            while (!arready) @(negedge aclk);
            @(negedge aclk);
            arvalid = 0;
            while (!rvalid) @(negedge aclk);
            answer = rdata;
            if (rresp !== 0) $fatal(1, "register %h: read response %b", address, rresp);
            @(negedge aclk);
            rready = 0;
        end
    endtask

    task check(input [4:0] address, input [31:0] value);
        begin
            read(address);
            if (answer !== value) $fatal(1, "register %h: expected %0d, observed %0d", address, value, answer);
        end
    endtask

    task rest;
        begin
            read(STATUS);
            while (answer !== AT_REST) read(STATUS);
        end
    endtask

    initial begin
        $readmemh("vectors/input.hex", words);
        $readmemh("vectors/expected.hex", expected);
        repeat (4) @(negedge aclk);
        aresetn = 1;
        check(IDENTITY, 32'h4c455054);
        check(REVISION, DESIGN);
        repeat (20) @(negedge aclk);
        if (sent != 0) $fatal(1, "the design took %0d words before it was started", sent);

        write(CONTROL, 2);
        rest;
        if (sent != IN_BEATS || received != OUT_BEATS) $fatal(1, "a start let %0d words in and %0d out", sent, received);
        check(DONE, 1);
        check(CYCLES, LATENCY);

        stalls = 1;
        write(CONTROL, 1);
        while (sent < FRAMES * IN_BEATS || received < FRAMES * OUT_BEATS) @(negedge aclk);
        write(CONTROL, 0);
        rest;
        check(DONE, FRAMES);
        $display("passed: %0d frames, latency %0d cycles", FRAMES, LATENCY);
        $finish;
    end

endmodule

`default_nettype wire
