package main

// The steps that store documents, read them and delete them.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

const collection = "scenario"

var subjects = []string{"a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"}

func text(n int) string { return fmt.Sprintf("document %d is about %s", n, subjects[n%4]) }

func id(n int) string { return fmt.Sprintf("doc-%04d", n) }

func document(n int) *pb.Document {
	metadata, err := structpb.NewStruct(map[string]any{
		"number": n,
		"even":   n%2 == 0,
		"tags":   []any{fmt.Sprintf("t%d", n%3)},
		"author": map[string]any{"name": "Ann"},
	})
	must(err)
	document := &pb.Document{Id: id(n), Text: text(n), Metadata: metadata}
	if n == 123 {
		document.Vector = &pb.Vector{Values: []float32{1, 0}}
	}
	return document
}

func (s *scenario) upload(ctx context.Context) {
	stream, err := s.client.Upload(ctx)
	must(err)
	answered := make(chan struct{})
	go func() {
		for message := range 20 {
			request := &pb.UploadRequest{Collection: collection}
			for n := range 50 {
				request.Documents = append(request.Documents, document(message*50+n))
			}
			if message == 19 {
				<-answered
			}
			// Send says only EOF when the stream has ended; Recv has the reason.
			if err := stream.Send(request); err != nil {
				return
			}
		}
		stream.CloseSend()
	}()
	var last *pb.UploadResponse
	var refused []*pb.UploadError
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		if last == nil {
			close(answered)
		}
		last, refused = response, append(refused, response.Errors...)
	}
	check(last.GetReceived() == 1000 && last.Committed == 999 && last.Done, "the last answer: %v", last)
	check(len(refused) == 1 && refused[0].Position == 123, "errors: %v", refused)
	checkField(refused[0].Status, "documents[23].vector")
}

func (s *scenario) list(ctx context.Context) {
	var ids []string
	pages, token := 0, ""
	for {
		request := &pb.ListDocumentsRequest{Collection: collection, PageSize: 300, PageToken: token}
		page, err := s.client.ListDocuments(ctx, request)
		must(err)
		for _, document := range page.Documents {
			ids = append(ids, document.Id)
		}
		pages++
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	check(pages == 4 && len(ids) == 999 && slices.IsSorted(ids), "%d pages with %d ids", pages, len(ids))
}

func (s *scenario) export(ctx context.Context) {
	stream, err := s.client.Export(ctx, &pb.ExportRequest{Collection: collection})
	must(err)
	documents := 0
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		check(part.Total == 999, "total is %d", part.Total)
		documents += len(part.Documents)
	}
	check(documents == 999, "%d documents", documents)
}

func (s *scenario) delete(ctx context.Context) {
	byIDs := &pb.DeleteDocumentsRequest{Collection: collection, Ids: []string{id(0), id(123)}}
	response, err := s.client.DeleteDocuments(ctx, byIDs)
	must(err)
	check(slices.Equal(response.Deleted, []string{id(0)}) && slices.Equal(response.Missing, []string{id(123)}),
		"by ids: %v", response)
	byFilter := &pb.DeleteDocumentsRequest{Collection: collection, Filter: textFilter("number >= 900")}
	response, err = s.client.DeleteDocuments(ctx, byFilter)
	must(err)
	check(response.Documents == 100, "by filter: %v", response)
}

func (s *scenario) drop(ctx context.Context) {
	response, err := s.client.DeleteCollection(ctx, &pb.DeleteCollectionRequest{Name: collection})
	must(err)
	check(response.Documents == 898, "%d documents were deleted", response.Documents)
}
