package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

func TestSummary(t *testing.T) {
	dir := healthy(t)
	want(t, 0, []string{
		"folder " + dir, "opened 1 time\n", "session none; last sent message: normal 0", "damage none",
		"accepted 6", "pending 4", "refused 1", "dead-lettered 1", " kept 1",
		"STREAM LAST NUMBER\nplant/1 7", "0000000000000001.mlog 4 ", " 6 4 1",
	}, dir)
	l, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want(t, 0, []string{fmt.Sprintf("in use by process %d", os.Getpid()), "pending 4"}, dir)
	want(t, 2, []string{"in use by process", "stop it first"}, dir, "repair", "-yes")
}

func TestList(t *testing.T) {
	dir := healthy(t)
	for _, c := range []struct {
		args []string
		seqs string
	}{
		{nil, "1 2 3 6"},
		{[]string{"-state", "released"}, "3"},
		{[]string{"-state", "dead"}, "5"},
		{[]string{"-state", "done"}, "4"},
		{[]string{"-state", "all"}, "1 2 3 4 5 6"},
		{[]string{"-state", "all", "-limit", "2"}, "1 2"},
		{[]string{"-state", "all", "-topic", "plant/+/temp"}, "1 4 5"},
		{[]string{"-state", "all", "-topic", "#"}, "1 2 4 5"}, // [MQTT-4.7.2-1]
		{[]string{"-topic", "$SYS/#"}, "3"},
		{[]string{"-topic", "none"}, ""},
	} {
		code, out, problems := call(t, dir, append([]string{"list"}, c.args...)...)
		var seqs []string
		for _, line := range strings.Split(out, "\n") {
			if f := strings.Fields(line); len(f) > 8 && f[0] != "SEQ" {
				seqs = append(seqs, f[0])
			}
		}
		if got := strings.Join(seqs, " "); code != 0 || got != c.seqs {
			t.Errorf("%v: %q, want %q\n%s%s", c.args, got, c.seqs, out, problems)
		}
	}
	want(t, 0, []string{
		"1 pending normal 1 8 B 1h0m - 01000000-0000-0000-0000-000000000001 plant/1/temp\n",
		"2 pending urgent 2 4 B 1h0m in 30m0s 01000000-0000-0000-0000-000000000002 plant/1/image\n",
		"3 released normal 2", "4 refused normal", "5 dead normal", "6 pending normal - - 1h0m - - (not a PUBLISH)\n", "6 messages\n",
	}, dir, "list", "-state", "all")
	want(t, 0, []string{"pending 3 12 B 1h0m", "released 1 1 B", "dead 1", "refused 1", "total 6 13 B"}, dir, "count")
	want(t, 0, []string{"total 1 8 B 1h0m"}, dir, "count", "-topic", "plant/1/temp")
}

func TestDeferred(t *testing.T) {
	dir := healthy(t)
	l, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for seq, d := range map[uint64]persistence.Deferral{
		1: {Since: begun, Until: begun.Add(90 * time.Minute), Attempts: 7, Code: 0x97, PacketID: 1026},
		2: {Since: begun, Until: begun},
		6: {Since: begun, Until: begun.Add(time.Minute), Attempts: 2, Code: 0x87, Alone: true, RefusedID: 77},
	} {
		if err := l.Defer(seq, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, 0, []string{"pending 4", " deferred 3", "bytes of deferred"}, dir)
	want(t, 0, []string{"1 deferred normal", "2 deferred urgent", "3 released normal", "6 deferred normal", "4 messages"}, dir, "list")
	want(t, 0, []string{"1 deferred", "2 deferred", "6 deferred", "\n3 messages"}, dir, "list", "-state", "deferred")
	want(t, 0, []string{"deferred 3", "released 1"}, dir, "count", "-state", "pending")
	want(t, 0, []string{"state deferred", "deferred 2024-05-06 07:08:09.000Z (1h0m ago)\n", "resent 2024-05-06 08:38:09.000Z (in 30m0s) at the earliest\n", "because attempt 7 was refused, reason code 0x97; packet identifier 1026\n"}, dir, "show", "1")
	want(t, 0, []string{"because it waits for an earlier message of its topic\n"}, dir, "show", "2")
	want(t, 0, []string{"because connections ended after it or another message of its topic was sent, reason code 0x87; it is sent alone; refused with packet identifier 77\n"}, dir, "show", "6")
	want(t, 0, []string{"result nothing is damaged"}, dir, "verify")
}

func TestShow(t *testing.T) {
	dir := healthy(t)
	want(t, 0, []string{
		"sequence 2\n", "state pending", "message ID 01000000-0000-0000-0000-000000000002\n",
		"accepted 2024-05-06 07:08:09.000Z (1h0m ago)\n", "expires 2024-05-06 08:38:09.000Z (in 30m0s)\n",
		"priority urgent, number 1\n", "key image\n", "stream plant/1, number 7\n", "lost session the message fails if it may have been sent\n", "record segment 1, offset ",
		"topic plant/1/image\n", "QoS 2\n", "retain true\n", "message expiry 1h30m0s from acceptance\n", "content type image/x\n",
		"response topic answers\n", "correlation 0102\n", `user property k = "v\x1b"` + "\n", "payload 4 bytes\n", "00000000 00 01 ff fe",
	}, dir, "show", "2")
	want(t, 0, []string{"sequence 1\n", "topic plant/1/temp\n", "retain false\n", "\n\n21.5 °C\n"}, dir, "show", "01000000-0000-0000-0000-000000000001")
	want(t, 0, []string{"state refused, reason code 0x97, 20"}, dir, "show", "4")
	want(t, 0, []string{"state dead: the server does not accept it; kept for inspection, reason code 0x99"}, dir, "show", "5")
	want(t, 0, []string{"packet not a PUBLISH", "0no packet"}, dir, "show", "6")
	want(t, 2, []string{"message 7 does not exist: the last one is 6"}, dir, "show", "7")
	want(t, 2, []string{"no message with the ID 00000000-0000-0000-0000-000000000009"}, dir, "show", "00000000000000000000000000000009")
	want(t, 2, []string{"neither a sequence number nor a message ID"}, dir, "show", "x")
	want(t, 2, []string{"show takes one argument"}, dir, "show")
}

// TestShow_Receipt: show prints the outcome of a message whose segment was removed.
func TestShow_Receipt(t *testing.T) {
	dir := t.TempDir()
	l, err := persistence.Open(dir, persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}, Retention: persistence.Retention{MaxReceipts: 100}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		seq := put(t, l, wire.Publish{Topic: "a", QoS: 1, Payload: make([]byte, 500)}, persistence.Message{ID: id(byte(i))})
		end(t, l, seq, persistence.Acked, 0x10)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, 0, []string{"message 2: acked with reason 0x10 at 20"}, dir, "show", "01000000000000000000000000000001")
	want(t, 2, []string{"message 2 is done, and its segment was removed"}, dir, "show", "2")
	want(t, 0, []string{".mrcp"}, dir)
}

func TestExport(t *testing.T) {
	dir := healthy(t)
	code, out, problems := call(t, dir, "export")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != 0 || len(lines) != 6 {
		t.Fatalf("%d: %s%s", code, out, problems)
	}
	for i, want := range map[int]string{
		0: `{"seq":1,"state":"pending","id":"01000000-0000-0000-0000-000000000001","accepted":"2024-05-06T07:08:09Z","priority":"normal","number":1,"segment":1,"offset":N,"topic":"plant/1/temp","qos":1,"retain":false,"payload":"21.5 °C"}`,
		1: `{"seq":2,"state":"pending","id":"01000000-0000-0000-0000-000000000002","accepted":"2024-05-06T07:08:09Z","expires":"2024-05-06T08:38:09Z","priority":"urgent","number":1,"key":"image","stream":"plant/1","stream_seq":7,"on_session_lost":"fail","segment":1,"offset":N,"topic":"plant/1/image","qos":2,"retain":true,"message_expiry":5400,"content_type":"image/x","response_topic":"answers","correlation_data_base64":"AQI=","user_properties":[["k","v\u001b"]],"payload_base64":"AAH//g=="}`,
		5: `{"seq":6,"state":"pending","accepted":"2024-05-06T07:08:09Z","priority":"normal","number":6,"segment":1,"offset":N,"packet_base64":"MG5vIHBhY2tldA=="}`,
	} {
		if got := regexp.MustCompile(`"offset":\d+`).ReplaceAllString(lines[i], `"offset":N`); got != want {
			t.Errorf("line %d:\n%s, want\n%s", i+1, got, want)
		}
	}
	var e struct {
		State   string
		Reason  int
		Ended   time.Time
		Payload *string
	}
	if err := json.Unmarshal([]byte(lines[3]), &e); err != nil || e.State != "refused" || e.Reason != 0x97 || e.Ended.IsZero() || e.Payload == nil || *e.Payload != "" {
		t.Errorf("%s: %+v, %v", lines[3], e, err)
	}
	if _, out, _ := call(t, dir, "export", "-state", "dead"); !strings.Contains(out, `"state":"dead","reason":153`) || strings.Count(out, "\n") != 1 {
		t.Errorf("dead letters: %s", out)
	}
}

// newer sets the format version of a segment to that of a later release.
func newer(b []byte) []byte {
	binary.LittleEndian.PutUint16(b[8:], persistence.FormatVersion+1)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestVerify: verify reports the condition of each folder. No command changes a folder without -yes.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T) string
		code int
		want []string
	}{
		{"healthy", healthy, 0, []string{"result nothing is damaged\nchanged nothing\n"}},
		{"torn", func(t *testing.T) string {
			dir, files := long(t)
			edit(t, files[len(files)-1], func(b []byte) []byte { return b[:len(b)-3] })
			return dir
		}, 0, []string{"torn 00000000", "never accepted", "nothing is damaged"}},
		{"corrupt in the middle", func(t *testing.T) string {
			dir, files := long(t)
			edit(t, files[1], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
			return dir
		}, 1, []string{"damaged 0000000000000002.mlog: 5", "bytes at offset ", "lost 1 message without a readable record: ", "counted 1 message lost because of damage", "result 1 damaged place; the readable records", "changed nothing\n"}},
		{"missing segment", func(t *testing.T) string {
			dir, files := long(t)
			if err := os.Remove(files[1]); err != nil {
				t.Fatal(err)
			}
			return dir
		}, 1, []string{"damaged 0000000000000002.mlog: the file is missing\n", "messages without a readable record: "}},
		{"cut short in the middle", func(t *testing.T) string {
			dir, files := long(t)
			edit(t, files[1], func(b []byte) []byte { return b[:len(b)-600] })
			return dir
		}, 1, []string{"damaged 0000000000000002.mlog: the file ends at offset "}},
		{"foreign files", func(t *testing.T) string {
			dir := healthy(t)
			for _, name := range []string{"notes.txt", "1.mlog"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return dir
		}, 0, []string{"unknown 1.mlog: not a file of the store\n", "unknown notes.txt: not a file of the store\n", "nothing is damaged"}},
		{"newer version", func(t *testing.T) string {
			dir := healthy(t)
			edit(t, filepath.Join(dir, "0000000000000001.mlog"), newer)
			return dir
		}, 2, []string{"use the newer release"}},
		{"empty folder", func(t *testing.T) string { return t.TempDir() }, 0, []string{"there is no log here"}},
		{"not a folder", func(t *testing.T) string {
			return filepath.Join(healthy(t), "0000000000000001.mlog")
		}, 2, []string{"pass the folder that contains the log"}},
		{"no folder", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, 2, []string{"inspect does not create folders"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.make(t)
			whole := filepath.Dir(dir)
			if err := filepath.WalkDir(whole, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				mode := fs.FileMode(0o444) // root ignores permissions; image detects its changes
				if d.IsDir() {
					mode = 0o555
				}
				return os.Chmod(path, mode)
			}); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(dir, 0o755)
			defer os.Chmod(whole, 0o755)
			before := image(t, whole)
			want(t, c.code, c.want, dir, "verify")
			for _, args := range [][]string{nil, {"list", "-state", "all"}, {"count"}, {"show", "1"}, {"export"}, {"repair"}, {"bogus"}} {
				call(t, dir, args...)
			}
			if after := image(t, whole); !maps.Equal(before, after) {
				t.Errorf("the folder was changed: %v, then %v", before, after)
			}
		})
	}
}

// TestDamagedRecord: of a message whose record is damaged, only the outcome is printed.
func TestDamagedRecord(t *testing.T) {
	dir := healthy(t)
	edit(t, filepath.Join(dir, "0000000000000001.mlog"), func(b []byte) []byte {
		b[bytes.Index(b, []byte("plant/2/temp"))] ^= 1
		return b
	})
	want(t, 0, []string{"4 refused normal - - - - - (its record is damaged)"}, dir, "list", "-state", "done")
	want(t, 0, []string{"record damaged: only its outcome is known"}, dir, "show", "4")
	want(t, 0, []string{`{"seq":4,"state":"refused","reason":151,`}, dir, "export", "-state", "done")
	want(t, 1, []string{"damaged 0000000000000001.mlog: "}, dir, "verify")
}

func TestRepair(t *testing.T) {
	dir, files := long(t)
	edit(t, files[1], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	edit(t, files[len(files)-1], func(b []byte) []byte { return b[:len(b)-3] })
	want(t, 2, []string{"Make a copy of the folder first, then confirm with -yes"}, dir, "repair")
	want(t, 0, []string{
		"damaged 0000000000000002.mlog: 5", "copy: 0000000000000002.mlog.corrupt\n", "cut off 1 unfinished write\n",
		"copy kept 0000000000000002.mlog.corrupt\n", "created 0000000000000006.mlog\n",
		"messages 30 accepted: 29 pending, 0 done, 0 dead letters kept, 1 lost to damage\n",
		"result verify reports 1 damaged place until",
	}, dir, "repair", "-yes")
	want(t, 1, []string{"copy 0000000000000002.mlog.corrupt"}, dir, "verify")

	// repair removes an unfinished write.
	dir, files = long(t)
	edit(t, files[len(files)-1], func(b []byte) []byte { return b[:len(b)-3] })
	want(t, 0, []string{"cut off 1", "messages 30 accepted: 30 pending", "result nothing is damaged\n"}, dir, "repair", "-yes")
	_, out, _ := call(t, dir, "verify")
	if strings.Contains(out, "torn") || !strings.Contains(out, "nothing is damaged") {
		t.Error(out)
	}

	// repair keeps dead letters and receipts, although the defaults would remove them.
	dir = healthy(t)
	want(t, 0, []string{"messages 6 accepted: 4 pending, 1 done, 1 dead letter kept"}, dir, "repair", "-yes")
	want(t, 0, []string{"state refused"}, dir, "show", "4")
	want(t, 2, []string{"holds no log"}, t.TempDir(), "repair", "-yes")
}

func TestNewIdentity(t *testing.T) {
	dir := healthy(t)
	copied := dir + ".copy"
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	epoch := func(dir string) uint64 {
		in, err := inspect.Open(dir, persistence.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		return in.Epoch
	}
	original := epoch(dir)
	in, err := inspect.Open(copied, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if in.Close(); in.Renewal == persistence.CopiedFiles { // this file system shows that the folder is a copy
		want(t, 0, []string{"epoch the folder is a copy, so its session is void; when the client opens it here"}, copied, "verify")
	}
	want(t, 2, []string{"nothing was changed: newidentity"}, copied, "newidentity")
	if epoch(copied) != original {
		t.Error("the copy was changed")
	}
	want(t, 0, []string{fmt.Sprintf(", previously %d\n", original), "session void", "pending 4: the original and this copy both deliver them"}, copied, "newidentity", "-yes")
	want(t, 0, []string{"pending 0, previously 4: the original delivers them"}, copied, "newidentity", "-yes", "-drop")
	if got := epoch(copied); got <= original || epoch(dir) != original {
		t.Errorf("the copy has epoch %d, the original had %d and has %d", got, original, epoch(dir))
	}
	want(t, 0, []string{"dropped 4", "dead-lettered 1"}, copied)
	want(t, 2, []string{"holds no log"}, t.TempDir(), "newidentity", "-yes")
	l, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want(t, 2, []string{"in use by process", "stop it first"}, dir, "newidentity", "-yes")
}

func TestUsage(t *testing.T) {
	dir := healthy(t)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"unknown command", []string{"-dir", dir, "lsit"}},
		{"no folder given", []string{"list"}},
		{"usage:", []string{"-bogus"}},
		{"takes only flags", []string{"-dir", dir, "list", "pending"}},
		{"unknown -state no", []string{"list", "-state", "no", "-dir", dir}},
		{"wildcard that does not stand alone", []string{"-dir", dir, "-topic", "a+", "list"}},
		{"-limit -1", []string{"-dir", dir, "list", "-limit", "-1"}},
	} {
		var out, problems bytes.Buffer
		if code := run(c.args, &out, &problems, now); code != 2 || !strings.Contains(problems.String(), c.want) || out.Len() > 0 {
			t.Errorf("%v: %d, %s%s", c.args, code, out.String(), problems.String())
		}
	}
}

// FuzzDecode: decode accepts any stored bytes and does not change them.
func FuzzDecode(f *testing.F) {
	f.Add(wire.AppendPublish(nil, &wire.Publish{Topic: "a/b", QoS: 2, Payload: []byte("x"), User: []wire.UserProperty{{Key: "k", Value: "v"}}}))
	f.Add([]byte{0x32, 2, 0, 9})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		packet := bytes.Clone(b)
		p, ok := decode(packet)
		if !bytes.Equal(packet, b) {
			t.Fatalf("% x became % x", b, packet)
		}
		if ok && !utf8Topic(p.Topic) {
			t.Fatalf("topic %q", p.Topic)
		}
	})
}

func utf8Topic(s string) bool { return s == "" || wire.CheckTopicName("Topic Name", s) == nil }
