module github.com/mooring-mqtt/mooring

go 1.25.0

require (
	github.com/eclipse/paho.golang v0.23.0
	github.com/google/uuid v1.6.0
	github.com/gorilla/websocket v1.5.3
	github.com/sony/gobreaker/v2 v2.4.0
	golang.org/x/net v0.58.0
)
