package mqtttest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// webSocketHandler accepts connections with the subprotocol "mqtt" [MQTT-6.0.0-3] and refuses
// others.
func (b *Broker) webSocketHandler() http.Handler {
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}, CheckOrigin: func(*http.Request) bool { return true }}
	mux := http.NewServeMux()
	mux.HandleFunc("/mqtt", func(w http.ResponseWriter, r *http.Request) {
		b.lock()
		if b.closed {
			b.unlock()
			return
		}
		b.wg.Add(1)
		b.unlock()
		defer b.wg.Done()
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the upgrader has answered
		}
		if ws.Subprotocol() != "mqtt" {
			_ = ws.WriteControl(websocket.CloseMessage,
				websocket.FormatCloseMessage(websocket.CloseProtocolError, "the subprotocol must be mqtt"), time.Now().Add(linger))
			_ = ws.Close() // refused in any case
			return
		}
		ws.SetReadLimit(wire.MaxPacketSize) // packets are read from a stream and limited by Options.MaximumPacketSize
		b.serve(&webSocket{Conn: ws}, ws.NetConn())
	})
	return mux
}

// webSocket converts a WebSocket into a byte stream. A packet may span frames, and a frame may
// contain several packets [MQTT-6.0.0-2].
type webSocket struct {
	*websocket.Conn
	frame io.Reader // rest of the current frame
}

var errTextFrame = errors.New("mqtttest: a WebSocket frame is not binary [MQTT-6.0.0-1]")

func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if w.frame == nil {
			kind, frame, err := w.NextReader()
			switch {
			case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
				return 0, io.EOF
			case err != nil:
				return 0, err
			case kind != websocket.BinaryMessage:
				return 0, errTextFrame
			}
			w.frame = frame
		}
		n, err := w.frame.Read(p)
		if errors.Is(err, io.EOF) {
			w.frame, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (w *webSocket) Write(p []byte) (int, error) {
	if err := w.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

// CloseWrite sends the Close frame. Nothing is written after it.
func (w *webSocket) CloseWrite() error {
	return w.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(linger))
}

var _ net.Conn = (*webSocket)(nil)
