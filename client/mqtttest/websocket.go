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

// webSocketHandler takes connections with the subprotocol "mqtt"
// [MQTT-6.0.0-3]; others are answered and closed.
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
			_ = ws.Close() // refused either way
			return
		}
		ws.SetReadLimit(wire.MaxPacketSize) // it is read as a stream; see Options.MaximumPacketSize
		b.serve(&webSocket{Conn: ws}, ws.NetConn())
	})
	return mux
}

// webSocket makes a byte stream of a WebSocket: packets may span frames and
// frames may hold many packets [MQTT-6.0.0-2].
type webSocket struct {
	*websocket.Conn
	frame io.Reader // what is left of the current one
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

// CloseWrite sends the Close frame, the last that is written.
func (w *webSocket) CloseWrite() error {
	return w.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(linger))
}

var _ net.Conn = (*webSocket)(nil)
