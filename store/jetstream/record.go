package jetstream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"berth/store"
)

// A record is stored as one byte of format, one of kind, four of checksum (CRC-32C, big endian, over subject, kind and
// value), then the value. The server keeps checksums too, but a damaged replica answers with holes: what matters is
// checked end to end.
const (
	recordFormat = 1
	recordHead   = 6

	kindValue     = 'v'
	kindTombstone = 'd'
)

const catalogSubject = "berth.catalog."

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func subject(k store.Key) string {
	return catalogSubject + strings.ReplaceAll(string(k), "/", ".")
}

func keyOf(subject string) store.Key {
	return store.Key(strings.ReplaceAll(strings.TrimPrefix(subject, catalogSubject), ".", "/"))
}

func checksum(subject string, kind byte, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(subject))
	sum = crc32.Update(sum, castagnoli, []byte{kind})
	return crc32.Update(sum, castagnoli, value)
}

// encodeRecord: a nil value is a tombstone.
func encodeRecord(subject string, value []byte) []byte {
	kind := byte(kindValue)
	if value == nil {
		kind = kindTombstone
	}
	data := make([]byte, recordHead, recordHead+len(value))
	data[0], data[1] = recordFormat, kind
	binary.BigEndian.PutUint32(data[2:], checksum(subject, kind, value))
	return append(data, value...)
}

// decodeRecord returns a value that shares data's memory, nil for a tombstone. Error: store.ErrDamaged.
func decodeRecord(subject string, data []byte) ([]byte, error) {
	if len(data) < recordHead || data[0] != recordFormat || data[1] != kindValue && data[1] != kindTombstone {
		return nil, fmt.Errorf("record %q is of no known format: %w", keyOf(subject), store.ErrDamaged)
	}
	value := data[recordHead:]
	if want, got := binary.BigEndian.Uint32(data[2:]), checksum(subject, data[1], value); want != got {
		return nil, fmt.Errorf("record %q has checksum %08x, expected %08x: %w", keyOf(subject), got, want, store.ErrDamaged)
	}
	if data[1] == kindTombstone {
		return nil, nil
	}
	return value, nil
}
